/** Client options from environment variables, in the names Kafka and librdkafka use. */
import { readFileSync } from 'node:fs'
import { OptionCheck } from '../option-check.ts'
import { type ClientOptions, type SaslOptions, saslMechanisms } from '../options.ts'
import type { SecretSource } from '../secret.ts'
import { clientCredentials } from './client-credentials.ts'

/** Kafka's own names, by what they mean. The first that is set counts. */
const environmentNames = [
  'KAFKA_BOOTSTRAP_SERVERS',
  'KAFKA_BROKERS',
  'KAFKA_CLIENT_ID',
  'KAFKA_SECURITY_PROTOCOL',
  'KAFKA_SASL_MECHANISM',
  'KAFKA_SASL_USERNAME',
  'KAFKA_SASL_PASSWORD',
  'KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL',
  'KAFKA_SASL_OAUTHBEARER_CLIENT_ID',
  'KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET',
  'KAFKA_SASL_OAUTHBEARER_SCOPE',
  'KAFKA_SSL_CA_LOCATION',
  'KAFKA_SSL_CERTIFICATE_LOCATION',
  'KAFKA_SSL_KEY_LOCATION',
  'KAFKA_SSL_KEY_PASSWORD',
  'KAFKA_SSL_SERVERNAME',
] as const

/**
 * Client options from environment variables; `undefined` when no bootstrap server is named.
 *
 * `KAFKA_BOOTSTRAP_SERVERS` (or `KAFKA_BROKERS`), `KAFKA_CLIENT_ID`, `KAFKA_SECURITY_PROTOCOL` (PLAINTEXT, SSL,
 * SASL_PLAINTEXT, SASL_SSL), `KAFKA_SASL_MECHANISM` (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER),
 * `KAFKA_SASL_USERNAME`, `KAFKA_SASL_PASSWORD`; for OAUTHBEARER by client credentials
 * `KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL`, `…_CLIENT_ID`, `…_CLIENT_SECRET`, `…_SCOPE`; `KAFKA_SSL_CA_LOCATION`,
 * `KAFKA_SSL_CERTIFICATE_LOCATION`, `KAFKA_SSL_KEY_LOCATION` (paths, as librdkafka names them),
 * `KAFKA_SSL_KEY_PASSWORD`, `KAFKA_SSL_SERVERNAME`. Each also as `…_FILE`: a file that holds the value; the files of
 * secrets are read again for every connection. SASL_PLAINTEXT with PLAIN or OAUTHBEARER has named what it is, and is
 * allowed. Throws OTTLA_CONFIG_INVALID.
 */
export function optionsFromEnvironment(env: Readonly<Record<string, string | undefined>>): ClientOptions | undefined {
  const check = new OptionCheck()
  const value = (name: (typeof environmentNames)[number]): string | undefined => {
    const plain = env[name]
    if (plain !== undefined && plain !== '') return plain
    const file = env[`${name}_FILE`]
    if (file === undefined || file === '') return undefined
    try {
      return readFileSync(file, 'utf8').trim()
    } catch (cause) {
      check.complain(`${name}_FILE names a file that cannot be read: ${(cause as Error).message}`)
      return undefined
    }
  }
  const secretValue = (
    name: 'KAFKA_SASL_PASSWORD' | 'KAFKA_SSL_KEY_PASSWORD' | 'KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET',
  ): SecretSource | undefined => {
    const first = value(name)
    const file = env[`${name}_FILE`]
    if (first === undefined || (env[name] ?? '') !== '' || file === undefined) return first
    return () => readFileSync(file, 'utf8').trim()
  }

  const bootstrapServers = value('KAFKA_BOOTSTRAP_SERVERS') ?? value('KAFKA_BROKERS')
  if (bootstrapServers === undefined) {
    check.done('Environment')
    return undefined
  }
  const clientId = value('KAFKA_CLIENT_ID')
  const ca = value('KAFKA_SSL_CA_LOCATION')
  const cert = value('KAFKA_SSL_CERTIFICATE_LOCATION')
  const key = value('KAFKA_SSL_KEY_LOCATION')
  const passphrase = secretValue('KAFKA_SSL_KEY_PASSWORD')
  const servername = value('KAFKA_SSL_SERVERNAME')
  const mechanism = value('KAFKA_SASL_MECHANISM')?.toLowerCase()
  const username = value('KAFKA_SASL_USERNAME')
  const password = secretValue('KAFKA_SASL_PASSWORD')

  // Without a protocol, what else is given says what is meant.
  const guessed = `${mechanism === undefined ? '' : 'SASL_'}${ca === undefined && cert === undefined ? (mechanism === undefined ? 'PLAINTEXT' : 'SSL') : 'SSL'}`
  const protocol = check.oneOf(
    'KAFKA_SECURITY_PROTOCOL',
    value('KAFKA_SECURITY_PROTOCOL')?.toUpperCase() ?? guessed,
    ['PLAINTEXT', 'SSL', 'SASL_PLAINTEXT', 'SASL_SSL'],
    'PLAINTEXT',
  )
  const withTls = protocol === 'SSL' || protocol === 'SASL_SSL'
  const withSasl = protocol === 'SASL_PLAINTEXT' || protocol === 'SASL_SSL'
  if (withSasl) {
    if (mechanism === undefined) check.complain(`KAFKA_SASL_MECHANISM is missing; ${protocol} needs it`)
    else if (mechanism !== 'oauthbearer' && !(mechanism in saslMechanisms)) {
      check.problem(
        'KAFKA_SASL_MECHANISM',
        `one of ${Object.values(saslMechanisms).join(', ')}, OAUTHBEARER`,
        mechanism,
      )
    }
  }
  const allowPlaintext = protocol === 'SASL_PLAINTEXT'
  let sasl: SaslOptions | undefined
  if (withSasl && mechanism === 'oauthbearer') {
    const tokenUrl = value('KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL')
    const oauthId = value('KAFKA_SASL_OAUTHBEARER_CLIENT_ID')
    const clientSecret = secretValue('KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET')
    const scope = value('KAFKA_SASL_OAUTHBEARER_SCOPE')
    if (tokenUrl === undefined || oauthId === undefined || clientSecret === undefined) {
      const names = ['TOKEN_ENDPOINT_URL', 'CLIENT_ID', 'CLIENT_SECRET']
      check.complain(`OAUTHBEARER needs ${names.map((name) => `KAFKA_SASL_OAUTHBEARER_${name}`).join(', ')}`)
    } else {
      const how = { tokenUrl, clientId: oauthId, clientSecret, ...(scope === undefined ? {} : { scope }) }
      sasl = { mechanism, token: clientCredentials(how), allowPlaintext }
    }
  } else if (withSasl) {
    if (username === undefined) check.complain(`KAFKA_SASL_USERNAME is missing; ${protocol} needs it`)
    if (password === undefined)
      check.complain(`KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE is missing; ${protocol} needs it`)
    if (username !== undefined && password !== undefined) {
      sasl =
        mechanism === 'plain'
          ? { mechanism, username, password, allowPlaintext }
          : { mechanism: mechanism as 'scram-sha-256' | 'scram-sha-512', username, password }
    }
  } else if (mechanism !== undefined) {
    check.complain(`KAFKA_SASL_MECHANISM is set, but KAFKA_SECURITY_PROTOCOL ${protocol} has no SASL`)
  }
  check.done('Environment')

  return {
    bootstrapServers,
    ...(clientId === undefined ? {} : { clientId }),
    ...(withTls
      ? {
          tls: {
            ...(ca === undefined ? {} : { ca }),
            ...(cert === undefined ? {} : { cert }),
            ...(key === undefined ? {} : { key }),
            ...(passphrase === undefined ? {} : { passphrase }),
            ...(servername === undefined ? {} : { servername }),
          },
        }
      : {}),
    ...(sasl === undefined ? {} : { sasl }),
  }
}
