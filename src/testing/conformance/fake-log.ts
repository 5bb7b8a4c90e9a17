/** A log in memory for relays to write to, a judge of the order in it, and what such tests need beside. */
import { OttlaError } from '../../contract/errors.ts'
import type { Clock, Log, OutboxRecord, Sent, Writer } from '../../runtime/ports.ts'

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs)
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  },
}

export const silentLog: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

/** A log in memory that relays write to. `refuse` and `away` make it fail. */
export class FakeLog {
  readonly records: OutboxRecord[] = []
  /** Told for each record before it is stored; what it returns is thrown. */
  refuse: (record: OutboxRecord) => OttlaError | null = () => null
  /** Nothing is answered, everything waits. */
  away = false
  /** How long an acknowledgement takes. */
  latencyMs = 1
  readonly #waiting: (() => void)[] = []
  #listeners: (() => void)[] = []

  /** A writer as one process has it; after `kill` nothing it was handed is stored or answered any more. */
  writer(): Writer & { kill(): void } {
    let killed = false
    let open = 0
    let batch: (() => void)[] = []
    return {
      send: (record) =>
        new Promise<Sent>((resolve, reject) => {
          open += 1
          const store = (): void => {
            if (killed) return
            open -= 1
            const error = this.refuse(record as OutboxRecord)
            if (error) {
              reject(error)
              return
            }
            this.records.push(record as OutboxRecord)
            resolve({ partition: 0, position: this.records.length - 1, timestampMs: 0 })
            for (const listener of this.#listeners) listener()
          }
          if (this.away) {
            this.#waiting.push(store)
            return
          }
          batch.push(store)
          if (batch.length > 1) return
          setTimeout(() => {
            const all = batch
            batch = []
            for (const one of all) {
              if (this.away) this.#waiting.push(one)
              else one()
            }
          }, this.latencyMs)
        }),
      flush: async () => {
        while (open > 0 && !killed) await new Promise((resolve) => setTimeout(resolve, 1))
      },
      kill: () => {
        killed = true
      },
      [Symbol.asyncDispose]: async () => undefined,
    }
  }

  /** What waited is stored. */
  comeBack(): void {
    this.away = false
    for (const store of this.#waiting.splice(0)) store()
  }

  /** Fails what waits, as a writer does when its delivery timeout is over. */
  failWaiting(code: 'OTTLA_KAFKA_CONNECTION' | 'OTTLA_PUBLISH_OUTCOME_UNKNOWN'): void {
    const before = this.refuse
    this.refuse = () => new OttlaError(code, 'the fake broker is away')
    for (const store of this.#waiting.splice(0)) store()
    this.refuse = before
  }

  /** Resolves when the condition holds, looked at after each record. */
  async until(condition: () => boolean): Promise<void> {
    if (condition()) return
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (!condition()) return
        this.#listeners = this.#listeners.filter((one) => one !== look)
        resolve()
      }
      this.#listeners.push(look)
    })
  }
}

/** Waits for a condition, asked every few milliseconds; the test's own timeout ends a wait in vain. */
export async function eventually(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** What is wrong with the order: per key the first copies of its versions must be 1, 2, 3 … up to the last committed. */
export function orderFaults(
  records: readonly Pick<OutboxRecord, 'key' | 'value'>[],
  versions: ReadonlyMap<string, number>,
): readonly string[] {
  const faults: string[] = []
  const seen = new Map<string, Set<number>>()
  for (const { key, value } of records) {
    const name = textOf(key)
    const version = Number(textOf(value))
    const of = seen.get(name) ?? new Set()
    seen.set(name, of)
    if (of.has(version)) continue
    of.add(version)
    if (version !== of.size) faults.push(`${name}: version ${version} came as number ${of.size}`)
  }
  for (const [name, version] of versions) {
    const count = seen.get(name)?.size ?? 0
    if (count !== version) faults.push(`${name}: ${version} versions committed, ${count} in the log`)
  }
  return faults
}

export const textOf = (bytes: Uint8Array | null): string => (bytes === null ? '' : new TextDecoder().decode(bytes))
export const bytesOf = (value: string): Uint8Array => new TextEncoder().encode(value)

let serial = 0

/** An outbox record of a key, with what is given changed. */
export function outboxRecord(key: string | null, value: string, changes: Partial<OutboxRecord> = {}): OutboxRecord {
  serial += 1
  return {
    topic: 'stock',
    partition: null,
    key: key === null ? null : bytesOf(key),
    value: bytesOf(value),
    headers: [
      { key: 'ce_id', value: bytesOf(`event-${serial}`) },
      { key: 'empty', value: new Uint8Array(0) },
      { key: 'none', value: null },
    ],
    id: `event-${serial}`,
    type: 'stock.Changed',
    source: 'shop',
    ...changes,
  }
}
