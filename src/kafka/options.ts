/** How to reach a cluster: options as written, checked all at once, and as resolved. */
export interface ResolvedClientOptions {
  readonly bootstrapServers: readonly { readonly host: string; readonly port: number }[]
  readonly clientId: string
  readonly tls: TlsOptions | null
  readonly sasl: SaslOptions | null
  readonly connectTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly metadataMaxAgeMs: number
  readonly maxFrameBytes: number
  readonly maxInFlight: number
  readonly reconnectBackoffMs: number
  readonly reconnectBackoffMaxMs: number
  readonly keepAliveMs: number
}

/** PEM text or a path, each. */
export interface TlsOptions {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly passphrase?: string
  readonly servername?: string
}

export type SaslOptions =
  | { readonly mechanism: 'plain'; readonly username: string; readonly password: string; readonly allowPlaintext: boolean }
  | { readonly mechanism: 'scram-sha-256' | 'scram-sha-512'; readonly username: string; readonly password: string }
