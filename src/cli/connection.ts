/** The options that say how to reach a cluster, shared by every command that does. */
import type { Command } from 'commander'
import { optionsFromEnvironment } from '../kafka/io/environment.ts'
import type { ClientOptions } from '../kafka/options.ts'

/** Where a Kafka for development listens. */
const defaultServers = 'localhost:9092'

/** Options as commander gives them. */
interface ConnectionFlags {
  readonly bootstrapServer?: string
  readonly securityProtocol?: string
  readonly saslMechanism?: string
  readonly saslUsername?: string
  readonly saslPasswordFile?: string
  readonly caFile?: string
  readonly certFile?: string
  readonly keyFile?: string
  readonly servername?: string
}

/** Adds the options to a program; commands read them with `connectionOptions`. */
export function addConnectionOptions(program: Command): Command {
  return program
    .optionsGroup('Connection (or the environment: KAFKA_BOOTSTRAP_SERVERS, KAFKA_SASL_PASSWORD …):')
    .option('-b, --bootstrap-server <host:port,…>', `brokers to start from (default: ${defaultServers})`)
    .option('--security-protocol <name>', 'PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL')
    .option('--sasl-mechanism <name>', 'PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER')
    .option('--sasl-username <name>', 'who we are')
    .option('--sasl-password-file <path>', 'file that holds the password (or KAFKA_SASL_PASSWORD)')
    .option('--ca-file <path>', 'certificates that are trusted, PEM')
    .option('--cert-file <path>', 'our own certificate, PEM; needs --key-file')
    .option('--key-file <path>', 'its key, PEM')
    .option('--servername <name>', 'the name the certificate of the broker must carry')
    .optionsGroup('Options:')
}

/**
 * How to reach the cluster: flags win over the environment, and both over localhost:9092. Throws OTTLA_CONFIG_INVALID.
 *
 * A password is never a flag: other users of the machine could read it.
 */
export function connectionOptions(command: Command): ClientOptions {
  const flags = command.optsWithGlobals<ConnectionFlags>()
  const given: Record<string, string | undefined> = {
    KAFKA_BOOTSTRAP_SERVERS: flags.bootstrapServer,
    KAFKA_SECURITY_PROTOCOL: flags.securityProtocol,
    KAFKA_SASL_MECHANISM: flags.saslMechanism,
    KAFKA_SASL_USERNAME: flags.saslUsername,
    KAFKA_SASL_PASSWORD_FILE: flags.saslPasswordFile,
    KAFKA_SSL_CA_LOCATION: flags.caFile,
    KAFKA_SSL_CERTIFICATE_LOCATION: flags.certFile,
    KAFKA_SSL_KEY_LOCATION: flags.keyFile,
    KAFKA_SSL_SERVERNAME: flags.servername,
  }
  const env: Record<string, string | undefined> = { ...process.env }
  for (const [name, value] of Object.entries(given)) if (value !== undefined) env[name] = value
  // The file was named just now, so it counts more than what the environment happens to hold.
  if (flags.saslPasswordFile !== undefined) delete env['KAFKA_SASL_PASSWORD']
  env['KAFKA_BOOTSTRAP_SERVERS'] ||= env['KAFKA_BROKERS'] || defaultServers
  return { clientId: 'ottla-cli', ...(optionsFromEnvironment(env) as ClientOptions) }
}
