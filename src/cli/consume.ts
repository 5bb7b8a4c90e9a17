/** `ottla consume TOPIC`: prints records as they come, without being a member of any group and without committing. */
import type { Command } from 'commander'
import type { FetchedBatch, HeldPartition } from '../kafka/consumer.ts'
import { exitInterrupted } from './failure.ts'
import { existingTopic, withClient } from './open-topic.ts'
import { addOutputOption, type OutputFormat, wholeNumber } from './output.ts'

interface ConsumeFlags {
  readonly fromBeginning?: boolean
  readonly exit?: boolean
  readonly count?: number
  readonly keySeparator?: string
  readonly output: OutputFormat
}

export function addConsumeCommand(program: Command): void {
  const command = program
    .command('consume')
    .description('print records; reads all partitions, joins no group, commits nothing')
    .argument('<topic>')
    .option('--from-beginning', 'from the oldest record on, instead of what comes from now on')
    .option('-e, --exit', 'stop at the end of what was there at the start')
    .option(
      '-c, --count <number>',
      'stop after so many records',
      wholeNumber('-c', { min: 1, max: Number.MAX_SAFE_INTEGER }),
    )
    .option('-K, --key-separator <text>', 'print the key and this text in front of the value')
  addOutputOption(command).action((topic: string) => consume(command, topic))
}

async function consume(command: Command, topic: string): Promise<void> {
  const flags = command.opts<ConsumeFlags>()
  await withClient(command, async (client) => {
    const { partitions } = await existingTopic(client, topic)
    const { promise: finished, resolve: finish, reject: fail } = Promise.withResolvers<void>()
    /** Partitions whose end, as it was at the start, has not been reached; a number once it is known. */
    const ends = new Map<number, number | null>(partitions.map(({ partition }) => [partition, null]))
    let left = flags.count ?? Number.POSITIVE_INFINITY
    const reached = (partition: number, position: number) => {
      const end = ends.get(partition)
      if (end === undefined || end === null || position < end) return
      ends.delete(partition)
      if (flags.exit === true && ends.size === 0) finish()
    }

    const consumer = client.consumer(
      { topics: [topic], start: flags.fromBeginning === true ? 'earliest' : 'latest' },
      {
        gained(parts) {
          for (const { held, position, logEnd } of parts) {
            if (ends.has(held.partition)) ends.set(held.partition, logEnd)
            reached(held.partition, position)
          }
        },
        batch(held, records) {
          const lines: Uint8Array[] = []
          for (let i = 0; i < records.count && left > 0; i++, left--) lines.push(lineOf(held, records, i, flags))
          const room = lines.length === 0 || process.stdout.write(Buffer.concat(lines))
          if (left === 0) finish()
          reached(held.partition, records.nextPosition)
          if (room) return
          // A reader that is slower than Kafka: nothing more is fetched until it has caught up.
          consumer.pause(held)
          process.stdout.once('drain', () => consumer.resume(held))
        },
        fault: (_where, error) => fail(error),
      },
    )
    const interrupt = () => {
      process.exitCode = exitInterrupted
      finish()
    }
    process.once('SIGINT', interrupt)
    process.once('SIGTERM', interrupt)
    try {
      await finished
    } finally {
      process.off('SIGINT', interrupt)
      process.off('SIGTERM', interrupt)
      await consumer[Symbol.asyncDispose]()
    }
  })
}

const newline = Buffer.from('\n')

/** One line: the value as it is, or JSON with everything. */
function lineOf(held: HeldPartition, records: FetchedBatch, index: number, flags: ConsumeFlags): Uint8Array {
  const key = records.key(index)
  const value = records.value(index)
  if (flags.output === 'json') {
    const record = {
      topic: held.topic,
      partition: held.partition,
      offset: records.position(index),
      timestampMs: records.timestampMs(index),
      key: textOf(key),
      value: textOf(value),
      headers: records.headers(index).map((header) => [header.key, textOf(header.value)]),
    }
    return Buffer.from(`${JSON.stringify(record)}\n`)
  }
  const prefix = flags.keySeparator === undefined ? [] : [key ?? Buffer.alloc(0), Buffer.from(flags.keySeparator)]
  return Buffer.concat([...prefix, value ?? Buffer.alloc(0), newline])
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text where the bytes are UTF-8; else `{ "base64": "…" }`, so that nothing is lost or mistaken for something else. */
function textOf(bytes: Uint8Array | null): string | { base64: string } | null {
  if (bytes === null) return null
  try {
    return strictUtf8.decode(bytes)
  } catch {
    return { base64: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64') }
  }
}
