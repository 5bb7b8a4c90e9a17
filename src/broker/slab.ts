/**
 * Where stored batches live: small ones are copied side by side into big blocks, large ones get a block of their own.
 *
 * Keeping views of socket chunks would pin whole chunks for one small batch.
 */

const blockBytes = 256 * 1024
const largeBytes = 32 * 1024

/** Copies bytes into long-lived memory. */
export class Slab {
  #block: Uint8Array = new Uint8Array(0)
  #used = 0

  copy(bytes: Uint8Array): Uint8Array {
    if (bytes.byteLength >= largeBytes) return new Uint8Array(bytes)
    if (this.#used + bytes.byteLength > this.#block.byteLength) {
      this.#block = new Uint8Array(blockBytes)
      this.#used = 0
    }
    const copy = this.#block.subarray(this.#used, this.#used + bytes.byteLength)
    copy.set(bytes)
    this.#used += bytes.byteLength
    return copy
  }
}
