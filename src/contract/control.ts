/**
 * What stands in `ottla.control.<service>`: the one topic in which the members of a service tell each other what no
 * offset can say. It is compacted; its keys are texts, its values JSON with a version.
 *
 *   hold/<topic id>/<partition>/<key>   a key held behind a dead letter; a null value lets it go
 *   pause/<topic>/<partition>           partitions that shall stand still, `*` for all; a null value lets them go on
 *   command/<id>                        something asked for; null once its result is there
 *   result/<id>[/…]                     what became of it; never removed: these are the audit
 *
 * Reading tolerates what a later version may write: unknown kinds, unknown members and higher versions are `foreign`,
 * and foreign records change nothing. What is malformed is foreign too: this topic never stops a service.
 */
import { decodeUtf8, encodeUtf8 } from './text.ts'

/** The version written. Higher ones are read as far as they are understood by this one's members. */
const version = 1

/** A place in the dead-letter topic. */
export interface LetterPlace {
  readonly partition: number
  readonly position: number
}

/** A key of one source partition, raw bytes as base64url. */
export interface HeldKey {
  readonly topic: string
  readonly topicId: string
  readonly partition: number
  readonly key: string
}

/** A key that waits behind a dead letter. */
export interface HoldRecord extends HeldKey {
  readonly kind: 'hold'
  /** Source position of the record that failed; later ones of the key are held. */
  readonly head: number
  /** Where its dead letters begin that are not settled. */
  readonly letter: LetterPlace
  /** Source position up to which its dead letters are settled; -1 while none is. */
  readonly done: number
  /** Source positions whose dead letters were discarded ahead of their turn. */
  readonly skip: readonly number[]
  /** How often a redrive of the first one has failed. */
  readonly redrives: number
  readonly atMs: number
  /** Why the first one failed: an error code. */
  readonly error: string
}

/** Partitions that stand still because somebody said so. */
export interface PauseRecord {
  readonly kind: 'pause'
  /** Null: every topic. */
  readonly topic: string | null
  /** Null: every partition. */
  readonly partition: number | null
  readonly by: string
  readonly reason: string
  readonly atMs: number
}

export type CommandAction = 'redrive' | 'discard'

/** Something asked of whoever owns the partition that a dead letter comes from. Open until its result is there. */
export interface CommandRecord {
  readonly kind: 'command'
  readonly id: string
  readonly action: CommandAction
  readonly letter: LetterPlace
  /** The source partition of the letter. */
  readonly topic: string
  readonly partition: number
  readonly by: string
  /** Why; a discard must say it. */
  readonly reason: string
  readonly atMs: number
  /** The payload to use in place of the stored one, base64url. */
  readonly edited: string | null
  /** Redrive it even if it has come back too often. */
  readonly force: boolean
  /** How often an owner has begun it: one that kills its owners is given up. */
  readonly accepted: number
}

/**
 * - `handled`, `duplicate`, `ignored`, `dropped`: as in the ledger.
 * - `deadLettered`: it failed again and has a new dead letter.
 * - `failed`: it failed again; the key stays held, the letter where it is.
 * - `released`: all letters of a held key are settled.
 * - `discarded`: nobody will handle it.
 * - `stale`: later records of its key were handled already, and the handler does not say `late: 'accept'`.
 * - `loop`: it has come back too often. `invalid`: the edited payload is not what the contract says.
 * - `missing`: there is no such letter. `processDied`: its owners died over it.
 * - `sentToSource`: it was written to its source topic once more, for every group that reads it.
 */
export const resultOutcomes = [
  'handled',
  'duplicate',
  'ignored',
  'dropped',
  'deadLettered',
  'failed',
  'released',
  'discarded',
  'stale',
  'loop',
  'invalid',
  'missing',
  'processDied',
  'sentToSource',
] as const

export type ResultOutcome = (typeof resultOutcomes)[number]

/** What became of a command, or of one letter of it. */
export interface ResultRecord {
  readonly kind: 'result'
  readonly id: string
  /** `toSource`: no command; whoever looks after the letters wrote it to its source topic once more. */
  readonly action: CommandAction | 'toSource'
  readonly outcome: ResultOutcome
  readonly letter: LetterPlace
  /** `ottla-origin` of the letter, empty when it could not be read. */
  readonly origin: string
  /** An error code, empty when all went well. */
  readonly error: string
  readonly by: string
  readonly reason: string
  readonly atMs: number
  readonly instance: string
  /** False: one letter of a held key; the command goes on. */
  readonly last: boolean
  /** Groups that were known to read the source topic, when a letter was written to it. */
  readonly groups?: readonly string[]
}

export type ControlRecord = HoldRecord | PauseRecord | CommandRecord | ResultRecord

/** What a record of the topic says. `gone`: its key counts no more. */
export type ControlEntry =
  | { readonly kind: 'record'; readonly key: string; readonly record: ControlRecord }
  | { readonly kind: 'gone'; readonly key: string }
  | { readonly kind: 'foreign' }

/** The key of a record: the newest with a key is the one that counts. */
export function controlKey(record: ControlRecord): string {
  switch (record.kind) {
    case 'hold':
      return `hold/${record.topicId}/${record.partition}/${record.key}`
    case 'pause':
      return `pause/${record.topic ?? '*'}/${record.partition ?? '*'}`
    case 'command':
      return `command/${record.id}`
    case 'result':
      return record.last
        ? `result/${record.id}`
        : `result/${record.id}/${record.letter.partition}/${record.letter.position}`
    default:
      return record satisfies never
  }
}

/** Key and value of a record. */
export function encodeControl(record: ControlRecord): { readonly key: Uint8Array; readonly value: Uint8Array } {
  return { key: encodeUtf8(controlKey(record)), value: encodeUtf8(JSON.stringify({ v: version, ...record })) }
}

/** Reads a record of the topic. Never throws. */
export function decodeControl(key: Uint8Array | null, value: Uint8Array | null): ControlEntry {
  const name = key === null ? null : decodeUtf8(key)
  if (name === null) return foreign
  if (value === null) return { kind: 'gone', key: name }
  const record = read(value)
  // A record that stands under another's key would let one thing be removed by another's name.
  return record === null || controlKey(record) !== name ? foreign : { kind: 'record', key: name, record }
}

const foreign: ControlEntry = { kind: 'foreign' }
const base64url = /^[A-Za-z0-9_-]*$/
const idForm = /^[A-Za-z0-9-]{1,64}$/
const topicForm = /^[A-Za-z0-9._-]{1,249}$/
const topicIdForm = /^[A-Za-z0-9_-]{1,64}$/
const skipMax = 10_000
const groupsMax = 1_000

type Members = Readonly<Record<string, unknown>>

function read(value: Uint8Array): ControlRecord | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(decodeUtf8(value) ?? '')
  } catch {
    // Not JSON: somebody else's record.
    return null
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return null
  const members = parsed as Members
  if (!isCount(members['v']) || members['v'] < 1) return null
  switch (members['kind']) {
    case 'hold':
      return readHold(members)
    case 'pause':
      return readPause(members)
    case 'command':
      return readCommand(members)
    case 'result':
      return readResult(members)
    default:
      return null
  }
}

function readHold(members: Members): HoldRecord | null {
  const { topic, topicId, partition, key, head, done, redrives, skip } = members
  const letter = place(members['letter'])
  if (!isText(topic, topicForm) || !isText(topicId, topicIdForm) || !isText(key, base64url)) return null
  if (!isCount(partition) || !isCount(head) || !isCount(redrives) || letter === null) return null
  if (done !== -1 && !isCount(done)) return null
  if (!Array.isArray(skip) || skip.length > skipMax || !skip.every(isCount)) return null
  const { atMs, error } = about(members)
  return { kind: 'hold', topic, topicId, partition, key, head, letter, done, skip, redrives, atMs, error }
}

function readPause(members: Members): PauseRecord | null {
  const { topic, partition } = members
  if (topic !== null && !isText(topic, topicForm)) return null
  if (partition !== null && !isCount(partition)) return null
  const { by, reason, atMs } = about(members)
  return { kind: 'pause', topic, partition, by, reason, atMs }
}

function readCommand(members: Members): CommandRecord | null {
  const { id, action, topic, partition, edited, force, accepted } = members
  const letter = place(members['letter'])
  if (!isText(id, idForm) || !isAction(action) || !isText(topic, topicForm) || !isCount(partition)) return null
  if (letter === null || (edited !== null && !isText(edited, base64url)) || !isCount(accepted)) return null
  const { by, reason, atMs } = about(members)
  const common = { id, action, letter, topic, partition, by, reason, atMs, edited, accepted }
  return { kind: 'command', ...common, force: force === true }
}

function readResult(members: Members): ResultRecord | null {
  const { id, action, outcome, last } = members
  const letter = place(members['letter'])
  const known = resultOutcomes.find((each) => each === outcome)
  if (!isText(id, idForm) || !isResultAction(action)) return null
  if (letter === null || typeof last !== 'boolean') return null
  if (known === undefined) return null
  const { by, reason, atMs, error } = about(members)
  const { groups } = members
  const told = Array.isArray(groups) && groups.length <= groupsMax && groups.every((each) => typeof each === 'string')
  const origin = typeof members['origin'] === 'string' ? members['origin'] : ''
  const instance = typeof members['instance'] === 'string' ? members['instance'] : ''
  const common = { id, action, outcome: known, letter, origin, error, by, reason, atMs, instance, last }
  return { kind: 'result', ...common, ...(told ? { groups: groups as string[] } : {}) }
}

function about(members: Members) {
  const text = (name: string): string => (typeof members[name] === 'string' ? members[name] : '')
  const at = members['atMs']
  return { by: text('by'), reason: text('reason'), error: text('error'), atMs: isCount(at) ? at : 0 }
}

function place(value: unknown): LetterPlace | null {
  if (typeof value !== 'object' || value === null) return null
  const { partition, position } = value as Members
  return isCount(partition) && isCount(position) ? { partition, position } : null
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isText(value: unknown, form: RegExp): value is string {
  return typeof value === 'string' && form.test(value)
}

function isResultAction(value: unknown): value is ResultRecord['action'] {
  return isAction(value) || value === 'toSource'
}

function isAction(value: unknown): value is CommandAction {
  return value === 'redrive' || value === 'discard'
}
