/** A request that writes its own frame, in pieces, so that large parts of it need not be copied. */

/** What is known only when the request goes out. */
export interface RequestPrefix {
  readonly version: number
  readonly correlationId: number
  readonly clientId: string
}

export class GatheredRequest {
  /** The whole frame, its length in front. The bytes must stay as they are until they have left the socket. */
  readonly pieces: (prefix: RequestPrefix) => readonly Uint8Array[]

  constructor(pieces: (prefix: RequestPrefix) => readonly Uint8Array[]) {
    this.pieces = pieces
  }
}
