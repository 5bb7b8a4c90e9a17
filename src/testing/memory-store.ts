/**
 * A store in memory that keeps the store port's promises inside one process: writes, inbox row and outbox rows of a
 * handler become visible together or not at all. For tests of the engine. Its transaction is a map of texts.
 */
import { OttlaError } from '../contract/errors.ts'
import type {
  ClaimedEvent,
  Fence,
  HandleOptions,
  HandleResult,
  OutboxKey,
  OutboxRecord,
  RelaySession,
  Store,
} from '../runtime/ports.ts'

/** What a handler may do to a memory store. */
export interface MemoryTx {
  get(key: string): string | undefined
  set(key: string, value: string): void
}

/** A kind of store for services in tests. */
export const memory = { kind: 'memory' } as { readonly kind: 'memory'; readonly '~tx'?: MemoryTx }

/** A store in memory, with its tables in reach of the test. */
export class MemoryStore implements Store<MemoryTx> {
  readonly kind = 'memory'
  readonly concurrencyMax: number
  readonly rows = new Map<string, string>()
  readonly inbox = new Set<string>()
  readonly outbox: { readonly row: number; readonly record: OutboxRecord; published: boolean }[] = []
  /** Set by tests: for how long deliveries are remembered, as the store says. */
  inboxRetentionMs = Number.POSITIVE_INFINITY
  readonly #fences = new Map<string, number>()
  readonly #listeners = new Set<() => void>()
  #nextRow = 1
  /** Set by tests: true makes every call fail as a database that is away. */
  away = false
  prepared = false
  disposed = false

  constructor(concurrencyMax = 16) {
    this.concurrencyMax = concurrencyMax
  }

  async prepare(): Promise<void> {
    this.#reach()
    this.prepared = true
  }

  async knows(service: string, topicId: string, partition: number): Promise<boolean> {
    await Promise.resolve()
    this.#reach()
    return this.#fences.has(fenceKey({ service, topicId, partition }))
  }

  async acquire(service: string, topicId: string, partition: number): Promise<number> {
    await Promise.resolve()
    this.#reach()
    const key = fenceKey({ service, topicId, partition })
    const epoch = (this.#fences.get(key) ?? 0) + 1
    this.#fences.set(key, epoch)
    return epoch
  }

  async handle(
    options: HandleOptions,
    work: (tx: MemoryTx) => Promise<readonly OutboxRecord[]>,
  ): Promise<HandleResult> {
    await Promise.resolve()
    this.#reach()
    const inboxKey = JSON.stringify([options.delivery.service, options.delivery.source, options.delivery.id])
    if (this.#fences.get(fenceKey(options.fence)) !== options.fence.epoch) return 'fenced'
    if (this.inbox.has(inboxKey)) return 'duplicate'
    const writes = new Map<string, string>()
    const records = await work(this.#tx(writes, options.signal))
    this.#reach()
    options.signal.throwIfAborted()
    if (this.#fences.get(fenceKey(options.fence)) !== options.fence.epoch) return 'fenced'
    this.inbox.add(inboxKey)
    this.#commit(writes, records)
    return 'committed'
  }

  async transact<R>(
    work: (tx: MemoryTx) => Promise<{ readonly result: R; readonly records: readonly OutboxRecord[] }>,
  ): Promise<R> {
    await Promise.resolve()
    this.#reach()
    const writes = new Map<string, string>()
    const { result, records } = await work(this.#tx(writes, null))
    this.#commit(writes, records)
    return result
  }

  onOutbox(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  async relay(): Promise<RelaySession> {
    this.#reach()
    return {
      shards: async () => [0],
      claim: async (maxRows: number, _maxBytes: number, skipKeys: readonly OutboxKey[]) => {
        this.#reach()
        const claimed: ClaimedEvent[] = []
        for (const { row, record, published } of this.outbox) {
          if (published || claimed.length >= maxRows) continue
          if (skipKeys.some((skip) => skip.topic === record.topic && sameKey(skip.key, record.key))) continue
          claimed.push({ row, shard: 0, record })
        }
        return claimed
      },
      mayPublish: () => !this.away,
      published: async (rows) => {
        this.#reach()
        for (const entry of this.outbox) if (rows.includes(entry.row)) entry.published = true
      },
      [Symbol.asyncDispose]: async () => undefined,
    }
  }

  async backlog(): Promise<{ readonly rows: number; readonly oldestSeconds: number }> {
    this.#reach()
    return { rows: this.outbox.filter(({ published }) => !published).length, oldestSeconds: 0 }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.disposed = true
  }

  #tx(writes: Map<string, string>, signal: AbortSignal | null): MemoryTx {
    return {
      get: (key) => {
        signal?.throwIfAborted()
        return writes.get(key) ?? this.rows.get(key)
      },
      set: (key, value) => {
        signal?.throwIfAborted()
        writes.set(key, value)
      },
    }
  }

  #commit(writes: ReadonlyMap<string, string>, records: readonly OutboxRecord[]): void {
    for (const [key, value] of writes) this.rows.set(key, value)
    for (const record of records) this.outbox.push({ row: this.#nextRow++, record, published: false })
    if (records.length > 0) for (const listener of this.#listeners) listener()
  }

  #reach(): void {
    if (this.away) throw new OttlaError('OTTLA_STORE_UNAVAILABLE', 'The memory store was told to be away')
  }
}

function fenceKey(fence: Omit<Fence, 'epoch'>): string {
  return JSON.stringify([fence.service, fence.topicId, fence.partition])
}

function sameKey(a: Uint8Array | null, b: Uint8Array | null): boolean {
  if (a === null || b === null) return a === b
  return a.length === b.length && a.every((byte, index) => byte === b[index])
}
