/**
 * A rebalance storm: members join and leave every few seconds, some are frozen past their session, records flow all the
 * while. What must hold is told as a list of flaws; the figures are for people.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { KafkaClient } from '../../src/kafka/client.ts'
import type { AssignorName } from '../../src/kafka/consumer.ts'
import { type StormLine, StormMember } from './storm-member.ts'

export interface StormOptions {
  readonly durationMs: number
  readonly assignors?: readonly AssignorName[]
  /** Members in this process, and those in processes of their own, which are frozen now and then. */
  readonly members: number
  readonly frozen: number
  readonly partitions: number
  readonly recordsPerSecond: number
  /** Between two joins or leaves. */
  readonly changeMs: number
  readonly sessionTimeoutMs: number
  /** Longest time in which nothing of a partition with lag is started. */
  readonly stallMs: number
  readonly seed: number
  readonly say?: (line: string) => void
}

export interface StormReport {
  readonly flaws: readonly string[]
  readonly figures: Readonly<Record<string, number>>
}

const commitSlack = 64

/** Plays it. `flaws` is empty when everything held. */
export async function playStorm(bootstrapServers: string, options: StormOptions): Promise<StormReport> {
  const { partitions, members: most, frozen, sessionTimeoutMs, durationMs, say = () => undefined } = options
  const random = seeded(options.seed)
  const client = new KafkaClient({ bootstrapServers })
  const topic = `storm-${process.pid}-${Date.now()}`
  const [created] = await client.admin().createTopics([{ topic, partitions }])
  if (created?.error !== undefined) throw created.error
  const lines: StormLine[] = []
  const given = {
    groupId: topic,
    topics: [topic],
    sessionTimeoutMs,
    heartbeatIntervalMs: 500,
    ...(options.assignors === undefined ? {} : { assignors: options.assignors }),
  }
  const flaws: string[] = []
  const figures = {
    changes: 0,
    freezes: 0,
    records: 0,
    starts: 0,
    repeats: 0,
    lost: 0,
    gains: 0,
    faults: 0,
    stallMs: 0,
  }
  const children: ChildProcess[] = []
  const running: StormMember[] = []
  let names = 0
  const join = (): void => void running.push(new StormMember(client, `m${++names}`, given, (line) => lines.push(line)))
  const stop = new AbortController()
  const producing = produce(client, { topic, ...options }, stop.signal)
  const watching = watchCommits(client, topic, flaws, stop.signal)
  try {
    for (let i = 0; i < frozen; i++) {
      const script = path.resolve(import.meta.dirname, 'storm-member.ts')
      const child = spawn(
        process.execPath,
        ['--conditions=@ottla/source', script, JSON.stringify({ ...given, bootstrapServers, name: `frozen${i}` })],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      )
      createInterface({ input: child.stdout! }).on('line', (line) => lines.push(JSON.parse(line) as StormLine))
      children.push(child)
    }
    for (let i = 0; i < most - frozen; i++) join()
    const endMs = performance.now() + durationMs
    const freezing = freeze(children, { sessionTimeoutMs, endMs, figures })
    while (performance.now() < endMs) {
      await sleep(options.changeMs)
      figures.changes++
      const leaves = running.length > 1 && (running.length >= most - frozen || random() < 0.5)
      if (leaves) {
        const [member] = running.splice(Math.floor(random() * running.length), 1)
        // Not awaited: the next change may come while it drains.
        void member?.[Symbol.asyncDispose]().catch((error: unknown) => flaws.push(`leaving failed: ${error}`))
      } else join()
      if (figures.changes % 20 === 0) say(`${figures.changes} changes, ${lines.length} lines`)
    }
    await freezing
    stop.abort()
    const sent = await producing
    figures.records = sent.length
    const handled = (): Set<string> => new Set(lines.flatMap((line) => (line.what === 'start' ? [line.value] : [])))
    const limitMs = performance.now() + 60_000
    while (handled().size < sent.length && performance.now() < limitMs) await sleep(200)
    const seen = handled()
    const missing = sent.filter((value) => !seen.has(value))
    if (missing.length > 0) flaws.push(`${missing.length} records never started, the first is ${missing[0]}`)
  } finally {
    stop.abort()
    for (const child of children) {
      child.kill('SIGCONT')
      child.kill('SIGTERM')
      if (child.exitCode === null) await Promise.race([once(child, 'exit'), sleep(10_000)])
      if (child.exitCode === null) child.kill('SIGKILL')
    }
    await Promise.allSettled(running.map((member) => member[Symbol.asyncDispose]()))
    await Promise.allSettled([producing, watching])
    await client.admin().deleteTopics([topic])
    await client.close()
  }
  judge(lines, { flaws, figures, options })
  return { flaws, figures }
}

/** Freezes one child after the other for longer than a session. */
async function freeze(
  children: readonly ChildProcess[],
  { sessionTimeoutMs, endMs, figures }: { sessionTimeoutMs: number; endMs: number; figures: { freezes: number } },
): Promise<void> {
  if (children.length === 0) return
  for (let turn = 0; ; turn++) {
    await sleep(sessionTimeoutMs * 2)
    if (performance.now() + sessionTimeoutMs * 2 > endMs) return
    const child = children[turn % children.length]
    child?.kill('SIGSTOP')
    figures.freezes++
    await sleep(sessionTimeoutMs * 1.5)
    child?.kill('SIGCONT')
  }
}

async function produce(
  client: KafkaClient,
  { topic, recordsPerSecond }: { topic: string; recordsPerSecond: number },
  signal: AbortSignal,
): Promise<readonly string[]> {
  await using producer = client.producer()
  const sent: Promise<string>[] = []
  const startMs = performance.now()
  while (!signal.aborted) {
    const due = ((performance.now() - startMs) / 1_000) * recordsPerSecond
    while (sent.length < due) {
      const value = `v${sent.length}`
      sent.push(producer.send({ topic, key: `k${sent.length % 97}`, value }).then(() => value))
    }
    await sleep(20)
  }
  return await Promise.all(sent)
}

/** A committed offset never goes back. */
async function watchCommits(client: KafkaClient, group: string, flaws: string[], signal: AbortSignal): Promise<void> {
  const last = new Map<number, number>()
  while (!signal.aborted) {
    await sleep(1_000)
    const offsets = await client
      .admin()
      .fetchOffsets(group)
      .catch(() => [])
    for (const { partition, offset } of offsets) {
      const before = last.get(partition) ?? -1
      if (offset < before) flaws.push(`the commit of ${partition} went back from ${before} to ${offset}`)
      last.set(partition, Math.max(before, offset))
    }
  }
}

interface Tenure {
  readonly member: string
  readonly ownership: number
  readonly gainedMs: number
  /** When it ended, and how; a frozen member says so late. */
  endedMs: number
  ended: 'released' | 'lost' | 'open'
  last: number
}

function judge(
  all: readonly StormLine[],
  {
    flaws,
    figures,
    options,
  }: { flaws: string[]; figures: Record<keyof StormReport['figures'], number>; options: StormOptions },
): void {
  const count = (name: string, by = 1): void => {
    figures[name] = (figures[name] ?? 0) + by
  }
  const lines = [...all].sort((a, b) => a.atMs - b.atMs)
  const tenures = new Map<number, Tenure[]>()
  const find = (line: StormLine & { partition: number; ownership: number }): Tenure | undefined =>
    tenures.get(line.partition)?.find((each) => each.member === line.member && each.ownership === line.ownership)
  for (const line of lines) {
    if (line.what === 'fault') {
      count('faults')
      continue
    }
    if (line.what === 'gained') {
      count('gains')
      const { member, ownership, atMs } = line
      const list = tenures.get(line.partition) ?? []
      list.push({ member, ownership, gainedMs: atMs, endedMs: Infinity, ended: 'open', last: -1 })
      tenures.set(line.partition, list)
    } else if (line.what !== 'start') {
      const tenure = find(line)
      if (tenure === undefined) continue
      tenure.endedMs = line.atMs
      tenure.ended = line.what
      if (line.what === 'lost') count('lost')
    }
  }
  const highest = new Map<number, number>()
  const startedMs = new Map<number, number>()
  for (const line of lines) {
    if (line.what !== 'start') continue
    count('starts')
    const place = `${line.member}, partition ${line.partition}, offset ${line.offset}`
    const tenure = find(line)
    if (tenure === undefined) {
      flaws.push(`${place}: started without the partition`)
      continue
    }
    // The next owner has it already. Stamps are whole milliseconds.
    const next = tenures.get(line.partition)?.find((each) => each.gainedMs > tenure.gainedMs && each !== tenure)
    if (next !== undefined && line.atMs > next.gainedMs + 1) {
      flaws.push(`${place}: started ${line.atMs - next.gainedMs} ms after ${next.member} had gained the partition`)
    }
    if (line.atMs > tenure.endedMs + 1) flaws.push(`${place}: started after it was ${tenure.ended}`)
    if (line.offset <= tenure.last) flaws.push(`${place}: back behind ${tenure.last} while the partition was kept`)
    tenure.last = line.offset
    const before = highest.get(line.partition) ?? -1
    if (line.offset <= before) count('repeats')
    else if (line.offset > before + 1) flaws.push(`${place}: ${line.offset - before - 1} records were skipped`)
    highest.set(line.partition, Math.max(before, line.offset))
    const previousMs = startedMs.get(line.partition)
    if (previousMs !== undefined) figures['stallMs'] = Math.max(figures['stallMs'] ?? 0, line.atMs - previousMs)
    startedMs.set(line.partition, line.atMs)
  }
  for (const [partition, list] of tenures) {
    for (const [index, tenure] of list.entries()) {
      const next = list[index + 1]
      if (next === undefined || next.gainedMs >= tenure.endedMs) continue
      if (tenure.ended !== 'lost') {
        flaws.push(`partition ${partition} was in two hands: ${tenure.member} (${tenure.ended}) and ${next.member}`)
      }
    }
  }
  // Only what a member that lost its session had not committed is handled again.
  const allowed = (figures['lost'] ?? 0) * commitSlack
  if ((figures['repeats'] ?? 0) > allowed) {
    flaws.push(`${figures['repeats']} repeats after ${figures['lost']} lost partitions`)
  }
  if ((figures['stallMs'] ?? 0) > options.stallMs) flaws.push(`a partition stood still for ${figures['stallMs']} ms`)
}

/** Random numbers that can be had again. */
function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}
