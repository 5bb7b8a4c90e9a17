/**
 * A group member that handles records one after the other per partition and writes down when each one started. It asks
 * before every start whether the partition is still its own, commits now and then, and finishes and commits what is in
 * hand when it has to give a partition up.
 *
 * In a process of its own: node storm-member.ts '{"bootstrapServers":…,"name":…,"groupId":…,"topics":[…]}', one JSON line
 * per thing that happens; SIGTERM ends it in good order.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { KafkaClient } from '../../src/kafka/client.ts'
import type { Consumer, ConsumerOptions, HeldPartition } from '../../src/kafka/consumer.ts'
import type { FetchedBatch } from '../../src/kafka/io/batch-view.ts'

/** What a member says. Times are of the wall clock of this machine. */
export type StormLine = { readonly member: string; readonly atMs: number } & (
  | { readonly what: 'gained' | 'released' | 'lost'; readonly partition: number; readonly ownership: number }
  | {
      readonly what: 'start'
      readonly partition: number
      readonly ownership: number
      readonly offset: number
      readonly key: string
      readonly value: string
    }
  | { readonly what: 'fault'; readonly code: string; readonly text: string }
)

/** How long a handler takes. */
const handleMs = 1
/** Records after which a partition commits. */
const commitEvery = 20

interface Queue {
  readonly held: HeldPartition
  readonly batches: FetchedBatch[]
  next: number
  committed: number
  stopped: boolean
  running: Promise<void> | null
  committing: Promise<unknown> | null
}

/** Starts a member; it ends, in good order, when disposed. */
export class StormMember implements AsyncDisposable {
  readonly name: string
  readonly consumer: Consumer
  readonly #say: (line: StormLine) => void
  readonly #queues = new Map<number, Queue>()

  constructor(client: KafkaClient, name: string, options: ConsumerOptions, say: (line: StormLine) => void) {
    this.name = name
    this.#say = say
    this.consumer = client.consumer(options, {
      gained: (parts) => {
        for (const { held, position } of parts) {
          this.#tell('gained', held)
          this.#queues.set(held.partition, {
            held,
            batches: [],
            next: position,
            committed: position,
            stopped: false,
            running: null,
            committing: null,
          })
        }
      },
      batch: (held, records) => {
        const queue = this.#queues.get(held.partition)
        if (queue?.held !== held) return
        queue.batches.push(records)
        if (queue.batches.length > 4) this.consumer.pause(held)
        queue.running ??= this.#work(queue)
      },
      releasing: async (parts) => {
        await Promise.all(
          parts.map(async (held) => {
            const queue = this.#queues.get(held.partition)
            if (queue?.held === held) {
              queue.stopped = true
              await queue.running
              await queue.committing
              await this.#commit(queue)
              this.#queues.delete(held.partition)
            }
            this.#tell('released', held)
          }),
        )
      },
      lost: (parts) => {
        for (const held of parts) {
          const queue = this.#queues.get(held.partition)
          if (queue?.held === held) {
            queue.stopped = true
            this.#queues.delete(held.partition)
          }
          this.#tell('lost', held)
        }
      },
      fault: (_, error) =>
        this.#say({ member: this.name, atMs: Date.now(), what: 'fault', code: error.code, text: error.message }),
    })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.consumer[Symbol.asyncDispose]()
  }

  async #work(queue: Queue): Promise<void> {
    const { held } = queue
    for (let batch = queue.batches[0]; batch !== undefined && !queue.stopped; batch = queue.batches[0]) {
      for (let i = 0; i < batch.count; i++) {
        if (batch.position(i) < queue.next) continue
        while (!queue.stopped && !this.consumer.owns(held)) await sleep(20)
        if (queue.stopped) break
        const text = (bytes: Uint8Array | null): string => Buffer.from(bytes ?? []).toString()
        this.#say({
          member: this.name,
          atMs: Date.now(),
          what: 'start',
          partition: held.partition,
          ownership: held.ownership,
          offset: batch.position(i),
          key: text(batch.key(i)),
          value: text(batch.value(i)),
        })
        await sleep(handleMs)
        queue.next = batch.position(i) + 1
        if (queue.next - queue.committed >= commitEvery && queue.committing === null) {
          queue.committing = this.#commit(queue).finally(() => {
            queue.committing = null
          })
        }
      }
      if (queue.stopped) break
      queue.next = Math.max(queue.next, batch.nextPosition)
      queue.batches.shift()
      if (queue.batches.length < 3) this.consumer.resume(held)
    }
    queue.running = null
  }

  async #commit(queue: Queue): Promise<void> {
    const { next, held } = queue
    if (next <= queue.committed) return
    try {
      if ((await this.consumer.commit(held, { offset: next, metadata: '' })) === 'stored') {
        queue.committed = Math.max(queue.committed, next)
      }
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error)
      this.#say({ member: this.name, atMs: Date.now(), what: 'fault', code: 'commit', text })
    }
  }

  #tell(what: 'gained' | 'released' | 'lost', { partition, ownership }: HeldPartition): void {
    this.#say({ member: this.name, atMs: Date.now(), what, partition, ownership })
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { bootstrapServers, name, ...options } = JSON.parse(process.argv[2] ?? '{}') as ConsumerOptions & {
    bootstrapServers: string
    name: string
  }
  const client = new KafkaClient({ bootstrapServers })
  const member = new StormMember(client, name, options, (line) => process.stdout.write(`${JSON.stringify(line)}\n`))
  process.on('SIGTERM', () => {
    void member[Symbol.asyncDispose]()
      .then(() => client.close())
      .then(() => process.exit(0))
  })
}
