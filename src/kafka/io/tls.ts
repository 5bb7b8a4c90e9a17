/** TLS for connections: reads certificates when they are needed, and tells a wrong certificate from a lost connection. */
import { isIP, type TcpNetConnectOpts } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { OttlaError } from '../../contract/errors.ts'
import type { ResolvedTlsOptions } from '../options.ts'

/**
 * A function that dials with TLS. PEM files are read now, so that a rotated certificate counts for the next connection.
 * Node's TLS is loaded here and not at the top: who has none should not pay for it at every start.
 */
export async function secureDialer(
  tls: ResolvedTlsOptions,
  host: string,
): Promise<(options: TcpNetConnectOpts) => TLSSocket> {
  const { connect } = await import('node:tls')
  const [ca, cert, key, passphrase] = await Promise.all([
    pem('ca', tls.ca),
    pem('cert', tls.cert),
    pem('key', tls.key),
    tls.passphrase?.reveal(),
  ])
  const servername = tls.servername ?? (isIP(host) === 0 ? host : undefined)
  const secure = {
    minVersion: 'TLSv1.2' as const,
    rejectUnauthorized: true,
    ...(servername === undefined ? {} : { servername }),
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(passphrase === undefined ? {} : { passphrase }),
  }
  return (options) => connect({ ...options, ...secure })
}

async function pem(name: string, source: string | null): Promise<string | undefined> {
  if (source === null) return undefined
  if (source.includes('-----BEGIN')) return source
  try {
    const { readFile } = await import('node:fs/promises')
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
