/**
 * What can go wrong, by name.
 *
 * Every error that leaves ottla is an `OttlaError` with a `code` from the table below. Match on `code`, never on the
 * text. `retriable` says whether the same call may succeed later without anyone changing anything; `fatal` says that
 * the object that threw it is finished. Codes are never renamed and never reused.
 */

/** What the table says about a code. */
export interface ErrorFacts {
  /** May the same call succeed later, with nothing changed? */
  readonly retriable: boolean
  /** Is the object that threw it finished? */
  readonly fatal: boolean
  /** What to do about it, in a sentence. */
  readonly help: string
}

const row = (retriable: boolean, fatal: boolean, help: string): ErrorFacts => ({ retriable, fatal, help })

/** One row per code; `docs/reference/errors.md` is made from it. Keep the areas together and each area sorted. */
export const errorTable = {
  OTTLA_BREAKER_OPEN: row(
    true,
    false,
    'Too many calls failed or were slow, so none is made now; the message says when the next probe is. Mend what it names.',
  ),

  OTTLA_CONFIG_INVALID: row(
    false,
    true,
    'Read the list in the message: each line names an option, what it expects and what it got.',
  ),

  OTTLA_CONTRACT_CODEC: row(
    false,
    false,
    'The bytes are not what the contract says. Compare the producer with the contract.',
  ),
  OTTLA_CONTRACT_ASYNC_SCHEMA: row(
    false,
    false,
    'Contract schemas are synchronous: move asynchronous checks into the handler.',
  ),
  OTTLA_CONTRACT_DEFINITION: row(false, true, 'The topic definition is wrong; the message names the member.'),
  OTTLA_CONTRACT_INVALID: row(
    false,
    false,
    'The payload does not fit the event; the message lists each field and what was expected.',
  ),

  OTTLA_KAFKA_AUTHENTICATION: row(
    false,
    true,
    'Check user, password or token, and the SASL mechanism of the listener.',
  ),
  OTTLA_KAFKA_AUTHORIZATION: row(
    false,
    false,
    'Give this principal the missing ACL; the message names resource and operation.',
  ),
  OTTLA_KAFKA_BROKER: row(false, false, 'The broker refused; `kafka.name` says why.'),
  OTTLA_KAFKA_CLOSED: row(false, true, 'The client was closed; make a new one.'),
  OTTLA_KAFKA_COMPRESSION: row(
    false,
    false,
    'No codec for this compression. snappy and lz4 need @platformatic/wasm-utils installed, and outside of a bundle.',
  ),
  OTTLA_KAFKA_CONNECTION: row(
    true,
    false,
    'The broker cannot be reached or hung up; check address, listener and network.',
  ),
  OTTLA_KAFKA_CORRUPT_BATCH: row(
    false,
    false,
    'A stored batch fails its CRC: the disk or the network damaged it. The partition is stopped.',
  ),
  OTTLA_KAFKA_GROUP_ACTIVE: row(
    false,
    false,
    'Offsets change only while nobody is in the group: stop its members, or wait until their sessions have ended.',
  ),
  OTTLA_KAFKA_LISTENER: row(
    false,
    false,
    'A callback given to the consumer threw. The partition is stopped; mend the callback, or seek to go on.',
  ),
  OTTLA_KAFKA_LOG_TRUNCATED: row(
    false,
    false,
    'Records that were read are gone: a leader was elected that did not have them (unclean election). Decide with `seek` where to go on.',
  ),
  OTTLA_KAFKA_MESSAGE_FORMAT: row(
    false,
    false,
    'The batch was written in a format from before Kafka 0.11; copy the topic with a newer client.',
  ),
  OTTLA_KAFKA_OFFSET_OUT_OF_RANGE: row(
    false,
    false,
    'Retention or a re-created topic removed the position. Choose a start position.',
  ),
  OTTLA_KAFKA_PLAN_OUTDATED: row(
    false,
    false,
    'Somebody committed for this group after the plan was made; make a new plan.',
  ),
  OTTLA_KAFKA_RETRIABLE: row(
    true,
    false,
    'A passing state of the cluster; ottla retries by itself within the deadline.',
  ),
  OTTLA_KAFKA_TIMEOUT: row(true, false, 'No answer within the deadline; the message names broker and request.'),
  OTTLA_KAFKA_TLS: row(
    false,
    true,
    'The TLS handshake failed: check CA, certificate, host name, and that the port speaks TLS.',
  ),
  OTTLA_KAFKA_UNSUPPORTED_VERSION: row(false, true, 'Broker and client share no version of this request.'),

  OTTLA_PUBLISH_BUFFER_FULL: row(
    true,
    false,
    'Records are made faster than the cluster takes them; wait for earlier publishes.',
  ),
  OTTLA_PUBLISH_INVALID: row(false, false, 'It is no record: the message names the part that is wrong.'),
  OTTLA_PUBLISH_OUTCOME_UNKNOWN: row(
    true,
    false,
    'It may or may not have been stored; publish again with the same `messageId`.',
  ),
  OTTLA_PUBLISH_PARTITION: row(
    false,
    false,
    'The topic has no such partition, or fewer than declared; the message has both numbers.',
  ),
  OTTLA_PUBLISH_TOO_LARGE: row(
    false,
    false,
    'The record exceeds `maxRequestBytes` or the topic limit; send a reference instead.',
  ),

  OTTLA_RUNTIME_BRAKE: row(
    false,
    false,
    'Too many dead letters in a row: mend the cause the alarm names, then resume the partition or deploy.',
  ),
  OTTLA_RUNTIME_CAREFUL: row(
    false,
    false,
    'The process died here several times; records are handled one at a time until the culprit is found.',
  ),
  OTTLA_RUNTIME_CONTROL_AWAY: row(
    true,
    false,
    'The control topic cannot be read, so held keys are unknown and nothing starts. Check that topic and its ACL.',
  ),
  OTTLA_RUNTIME_DEAD_LETTERS_AWAY: row(
    true,
    false,
    'A dead letter could not be written; the partition waits and retries. Check the dead-letter topic.',
  ),
  OTTLA_RUNTIME_DEADLINE: row(
    true,
    false,
    'The handler took longer than its timeout; honour `signal` or raise `timeout`.',
  ),
  OTTLA_RUNTIME_DETACHED: row(
    false,
    true,
    'Something a handler did not await failed after nobody was listening; await it. The app drains and the process exits.',
  ),
  OTTLA_RUNTIME_EXPIRED: row(
    false,
    false,
    'Retention removed records before this service had read them; lengthen it or catch up faster.',
  ),
  OTTLA_RUNTIME_HOLDS_FULL: row(
    false,
    false,
    'Too many keys wait behind dead letters: redrive or discard some (`ottla dlq list`); then the partition goes on.',
  ),
  OTTLA_RUNTIME_LEDGER_IMBALANCE: row(
    false,
    true,
    'A record is unaccounted for: a defect in ottla. The partition is stopped; report it.',
  ),
  OTTLA_RUNTIME_NOT_STARTED: row(false, false, 'Call and await `start()` first.'),
  OTTLA_RUNTIME_OFFSETS_VANISHED: row(
    false,
    false,
    'The group has lost its place in a partition; choose one with `ottla groups reset-offsets`, or say offsetsVanished in the app.',
  ),
  OTTLA_RUNTIME_PARKED_FULL: row(
    true,
    false,
    'Too many records wait behind failed ones of the same keys; the partition pauses until they are fewer.',
  ),
  OTTLA_RUNTIME_PERMANENT: row(
    false,
    false,
    'The handler said that repeating is pointless; the record is dead-lettered.',
  ),
  OTTLA_RUNTIME_RETRY_TOPICS_AWAY: row(
    true,
    false,
    'A failed record could not be written to its retry topic; the partition waits and tries again. Check that topic.',
  ),
  OTTLA_RUNTIME_STALLED: row(
    true,
    false,
    'A partition has records to handle, and none has ended for longer than its handlers may take, twice over. Look at what the handlers wait for.',
  ),
  OTTLA_RUNTIME_STOPPING: row(false, true, 'The app is shutting down and takes no more work.'),
  OTTLA_RUNTIME_TOPIC: row(
    false,
    true,
    'A topic is missing or not as the contract declares; the message lists the differences.',
  ),
  OTTLA_RUNTIME_UNDECLARED_EMIT: row(false, false, 'Add the topic to the `emits` of the service.'),
  OTTLA_RUNTIME_WIRING: row(
    false,
    true,
    'Services, topics and store do not fit together; the message lists each problem.',
  ),

  OTTLA_STORE_FENCED: row(true, false, 'Another process owns this partition now; the transaction was rolled back.'),
  OTTLA_STORE_INBOX_RETENTION: row(
    false,
    true,
    'The inbox forgets earlier than the topics do, so records read again could be handled twice; raise inboxRetentionDays.',
  ),
  OTTLA_STORE_POOLER: row(false, true, 'The relay needs a session of its own: connect past a transaction-mode pooler.'),
  OTTLA_STORE_SCHEMA: row(false, true, 'Run `ottla store migrate`, or start once with schema: "apply".'),
  OTTLA_STORE_TX: row(
    false,
    false,
    'The transaction belongs to ottla and ends with the handler; the message says what to do.',
  ),
  OTTLA_STORE_UNAVAILABLE: row(true, false, 'The database cannot be reached; ottla pauses and retries.'),

  OTTLA_TEST_LEDGER: row(false, true, 'A record ended in no stated way, or more than once.'),
  OTTLA_TEST_UNSETTLED: row(false, false, 'Something is still running, waiting or parked; the message lists it.'),

  OTTLA_WIRE_MALFORMED: row(false, true, 'The bytes are no valid Kafka frame; the connection is closed.'),
} as const satisfies Record<string, ErrorFacts>

/** The name of an error. */
export type ErrorCode = keyof typeof errorTable

/** What a broker said, where one said something. */
export interface KafkaErrorFacts {
  readonly code: number
  readonly name: string
}

/** What may be said beside code and message. */
export interface OttlaErrorOptions {
  readonly cause?: unknown
  readonly kafka?: KafkaErrorFacts
  /** Overrides the table where the broker's own error knows better. */
  readonly retriable?: boolean
  /** Plain facts for logs: topic, partition, field. Never secrets, never payloads. */
  readonly details?: Readonly<Record<string, unknown>>
}

const brand = Symbol.for('ottla.error')

/**
 * Every error of ottla.
 *
 * `instanceof` is decided by a brand shared through the global symbol registry, so it also holds across two copies of
 * the package in one process.
 */
export class OttlaError extends Error {
  readonly code: ErrorCode
  readonly retriable: boolean
  readonly fatal: boolean
  readonly help: string
  readonly kafka: KafkaErrorFacts | undefined
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message: string, options: OttlaErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    const facts = errorTable[code]
    this.name = 'OttlaError'
    this.code = code
    this.retriable = options.retriable ?? facts.retriable
    this.fatal = facts.fatal
    this.help = facts.help
    this.kafka = options.kafka
    this.details = options.details ?? {}
    Object.defineProperty(this, brand, { value: true })
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: the class that was asked, which may be a subclass
    return isBranded(value, this, { owner: OttlaError, mark: brand })
  }
}

/** A class that owns a brand is met by the brand alone; subclasses of it by their prototype. */
function isBranded(value: unknown, asked: Asked, { owner, mark }: { owner: Asked; mark: symbol }): boolean {
  if (typeof value !== 'object' || value === null || !(mark in value)) return false
  return asked === owner || Object.prototype.isPrototypeOf.call(asked.prototype, value)
}

interface Asked {
  readonly prototype: object
}

const permanentBrand = Symbol.for('ottla.error.permanent')

/** Thrown by a handler to say: repeating this is pointless. The record is dead-lettered at once. */
export class PermanentError extends OttlaError {
  constructor(message: string, options: OttlaErrorOptions = {}) {
    super('OTTLA_RUNTIME_PERMANENT', message, options)
    this.name = 'PermanentError'
    Object.defineProperty(this, permanentBrand, { value: true })
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: the class that was asked, which may be a subclass
    return isBranded(value, this, { owner: PermanentError, mark: permanentBrand })
  }
}
