/** A record of a batch as the contract reads it: nothing is made of it before somebody asks. */
import type { HeaderVisitor, RecordView } from '../contract/envelope.ts'
import type { BatchView, Header, Held } from './ports.ts'

export class RecordInPlace implements RecordView {
  readonly #held: Held
  readonly #batch: BatchView
  readonly #index: number

  constructor(held: Held, batch: BatchView, index: number) {
    this.#held = held
    this.#batch = batch
    this.#index = index
  }

  get topicId(): string {
    return this.#held.topicId
  }

  get partition(): number {
    return this.#held.partition
  }

  get position(): number {
    return this.#batch.position(this.#index)
  }

  get timestampMs(): number {
    return this.#batch.timestampMs(this.#index)
  }

  get key(): Uint8Array | null {
    return this.#batch.key(this.#index)
  }

  get value(): Uint8Array | null {
    return this.#batch.value(this.#index)
  }

  get headers(): readonly Header[] {
    return this.#batch.headers(this.#index)
  }

  eachHeader(visit: HeaderVisitor): boolean {
    const batch = this.#batch
    if (batch.eachHeader === undefined) return false
    batch.eachHeader(this.#index, visit)
    return true
  }
}
