/** TLS for connections: reads certificates when they are needed, and tells a wrong certificate from a lost connection. */
import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import type { ConnectionOptions as TlsConnectionOptions } from 'node:tls'
import { OttlaError } from '../../contract/errors.ts'
import type { ResolvedTlsOptions } from '../options.ts'

/** Options for `tls.connect`, with PEM files read now, so that a rotated certificate counts for the next connection. */
export async function secureOptions(tls: ResolvedTlsOptions, host: string): Promise<TlsConnectionOptions> {
  const [ca, cert, key, passphrase] = await Promise.all([
    pem('ca', tls.ca),
    pem('cert', tls.cert),
    pem('key', tls.key),
    tls.passphrase?.reveal(),
  ])
  const servername = tls.servername ?? (isIP(host) === 0 ? host : undefined)
  return {
    minVersion: 'TLSv1.2',
    rejectUnauthorized: true,
    ...(servername === undefined ? {} : { servername }),
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(passphrase === undefined ? {} : { passphrase }),
  }
}

async function pem(name: string, source: string | null): Promise<string | undefined> {
  if (source === null) return undefined
  if (source.includes('-----BEGIN')) return source
  try {
    return await readFile(source, 'utf8')
  } catch (cause) {
    throw new OttlaError('OTTLA_KAFKA_TLS', `tls.${name} cannot be read: ${(cause as Error).message}`)
  }
}

const systemErrors = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'EHOSTDOWN',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ECONNABORTED',
  'EADDRNOTAVAIL',
  'EMFILE',
  'ENFILE',
])

/** Did the handshake itself fail (certificate, protocol), rather than the network below it? */
export function isTlsFailure(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' && !systemErrors.has(code)
}

/** What a TLS listener sends to one who does not speak TLS: an alert or handshake record. */
export function looksLikeTls(bytes: Uint8Array): boolean {
  return (bytes[0] === 0x15 || bytes[0] === 0x16) && bytes[1] === 0x03
}
