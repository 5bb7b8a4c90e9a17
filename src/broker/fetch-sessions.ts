/**
 * Fetch sessions (KIP-227): partitions a client fetches again and again, remembered so that requests and answers name
 * only what differs.
 *
 * ```
 *  request (0, 0) ──► open (id, 1) ──request (id, n)──► open (id, n + 1)
 *                        │
 *                        └── request (id, 0) or (id, -1), or least recently used when there are too many ──► gone
 * ```
 *
 * A session is one broker's, and names topics by id or by name for all its life. Without room for another one a client
 * gets full answers with session id 0.
 */
import { ErrorCode } from '../wire/error-codes.ts'
import type {
  FetchRequest,
  FetchRequestFetchPartition,
  FetchRequestFetchTopic,
  FetchResponse,
  FetchResponsePartitionData,
} from '../wire/messages.gen.ts'
import type { Draft } from '../wire/protocol.ts'

/** Sessions of all brokers together. */
const sessionsMax = 1_000
/** Unused for less than this, a session is not given up for a new one. */
const evictableAfterMs = 120_000
const epochMax = 0x7fff_ffff

interface SessionPartition {
  readonly topic: string
  readonly topicId: string
  want: FetchRequestFetchPartition
  /** As told last; -1 when the client must be told in any case. */
  highWatermark: number
  logStartOffset: number
}

interface Session {
  readonly id: number
  readonly node: number
  readonly byId: boolean
  epoch: number
  usedMs: number
  /** In the order in which an answer is filled: who got data last stands at the end. */
  readonly partitions: Map<string, SessionPartition>
}

/** Who asks, and how. */
export interface SessionCall {
  readonly node: number
  readonly byId: boolean
  readonly nowMs: number
}

/** A request as it would be without sessions, and what to leave out of its answer. */
export interface SessionContext {
  readonly request: FetchRequest
  answer(body: Draft<FetchResponse>): Draft<FetchResponse>
}

type PartitionAnswer = Draft<FetchResponsePartitionData>

export class FetchSessions {
  readonly #sessions = new Map<number, Session>()
  #lastId = 0

  /** How many there are. */
  get size(): number {
    return this.#sessions.size
  }

  /** What a request stands for, or the error code for it. */
  open(call: SessionCall, request: FetchRequest): SessionContext | number {
    const { sessionId, sessionEpoch } = request
    if (sessionEpoch <= 0) {
      if (this.#sessions.get(sessionId)?.node === call.node) this.#sessions.delete(sessionId)
      const session = sessionEpoch === 0 ? this.#create(call) : null
      if (session === null) return { request, answer: (body) => body }
      for (const topic of request.topics) learn(session, topic)
      return { request, answer: (body) => ({ ...tellAll(session, body), sessionId: session.id }) }
    }
    const session = this.#sessions.get(sessionId)
    if (session === undefined || session.node !== call.node) return ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    if (session.byId !== call.byId) return ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
    if (session.epoch !== sessionEpoch) return ErrorCode.INVALID_FETCH_SESSION_EPOCH
    session.epoch = session.epoch === epochMax ? 1 : session.epoch + 1
    session.usedMs = call.nowMs
    for (const { topic, topicId, partitions } of request.forgottenTopicsData) {
      for (const partition of partitions) session.partitions.delete(keyOf(session, { topic, topicId }, partition))
    }
    for (const topic of request.topics) learn(session, topic)
    return {
      request: { ...request, topics: topicsOf(session) },
      answer: (body) => ({ ...tellNews(session, body), sessionId }),
    }
  }

  /** The partitions a request is about, the remembered ones included. */
  topics(request: FetchRequest): readonly FetchRequestFetchTopic[] {
    const session = request.sessionEpoch > 0 ? this.#sessions.get(request.sessionId) : undefined
    return session === undefined ? request.topics : [...topicsOf(session), ...request.topics]
  }

  #create({ node, byId, nowMs }: SessionCall): Session | null {
    if (this.#sessions.size >= sessionsMax) {
      let oldest: Session | undefined
      for (const session of this.#sessions.values()) {
        if (oldest === undefined || session.usedMs < oldest.usedMs) oldest = session
      }
      if (oldest === undefined || nowMs - oldest.usedMs < evictableAfterMs) return null
      this.#sessions.delete(oldest.id)
    }
    this.#lastId = this.#lastId === epochMax ? 1 : this.#lastId + 1
    const session = { id: this.#lastId, node, byId, epoch: 1, usedMs: nowMs, partitions: new Map() }
    this.#sessions.set(session.id, session)
    return session
  }
}

function keyOf(session: Session, topic: { readonly topic: string; readonly topicId: string }, index: number): string {
  return `${session.byId ? topic.topicId : topic.topic}/${index}`
}

function learn(session: Session, topic: FetchRequestFetchTopic): void {
  for (const want of topic.partitions) {
    const key = keyOf(session, topic, want.partition)
    const known = session.partitions.get(key)
    if (known !== undefined) known.want = want
    else {
      const { topic: name, topicId } = topic
      session.partitions.set(key, { topic: name, topicId, want, highWatermark: -1, logStartOffset: -1 })
    }
  }
}

function topicsOf(session: Session): FetchRequestFetchTopic[] {
  const topics: { topic: string; topicId: string; partitions: FetchRequestFetchPartition[] }[] = []
  for (const { topic, topicId, want } of session.partitions.values()) {
    const last = topics.at(-1)
    if (last !== undefined && last.topic === topic && last.topicId === topicId) last.partitions.push(want)
    else topics.push({ topic, topicId, partitions: [want] })
  }
  return topics
}

/** Remembers what is told, all of it. */
function tellAll(session: Session, body: Draft<FetchResponse>): Draft<FetchResponse> {
  tellNews(session, body)
  return body
}

/** Leaves out what the client knows. */
function tellNews(session: Session, body: Draft<FetchResponse>): Draft<FetchResponse> {
  const responses = (body.responses ?? []).map((topic) => {
    const names = { topic: topic.topic ?? '', topicId: topic.topicId ?? '' }
    return {
      ...topic,
      partitions: (topic.partitions ?? []).filter((told) =>
        isNews(session, keyOf(session, names, told.partitionIndex ?? -1), told),
      ),
    }
  })
  return { ...body, responses: responses.filter(({ partitions }) => partitions.length > 0) }
}

function isNews(session: Session, key: string, told: PartitionAnswer): boolean {
  const known = session.partitions.get(key)
  if (known === undefined) return true
  const { errorCode = 0, highWatermark = -1, logStartOffset = -1 } = told
  const hasRecords = told.records != null && told.records.length > 0
  const differs = known.highWatermark !== highWatermark || known.logStartOffset !== logStartOffset
  known.highWatermark = errorCode === 0 ? highWatermark : -1
  known.logStartOffset = logStartOffset
  if (hasRecords) {
    session.partitions.delete(key)
    session.partitions.set(key, known)
  }
  return errorCode !== 0 || hasRecords || differs || (told.divergingEpoch?.epoch ?? -1) >= 0
}
