/**
 * Faults on demand: rules that make the broker misbehave for chosen requests.
 *
 * Rules are asked in the order they were added; the first that matches and has uses left wins. Rules see names, never
 * versions or topic ids. What a rule can do:
 *
 *   a number             the protocol's error code, for the matching partitions or the whole answer; nothing is applied
 *   'drop'               the connection is closed, nothing is applied
 *   'apply-then-drop'    the request is applied and the connection closed instead of answered
 *   'silence'            nothing is applied and no answer ever comes; what follows on the connection waits with it
 *   'delay'              applied at once, answered `delayMs` later
 */
import type { ApiName } from '../wire/protocol.ts'

export type FaultAction = number | 'drop' | 'apply-then-drop' | 'silence' | 'delay'

/** What to do to which requests. A member left out matches everything. */
export interface FaultRule {
  readonly api: ApiName
  readonly node?: number
  readonly topic?: string
  readonly partition?: number
  readonly group?: string
  readonly clientId?: string
  /** How often; Infinity for always. Default 1. */
  readonly times?: number
  /** Matching requests to let through first. Default 0. */
  readonly skip?: number
  readonly respond: FaultAction
  /** For 'delay', in milliseconds. */
  readonly delayMs?: number
}

/** A rule in force; disposing withdraws it. */
export interface Fault extends Disposable {
  /** How often it has struck. */
  readonly struck: number
}

/** What can be said of a request without knowing its version. */
export interface Subject {
  readonly api: ApiName
  readonly node: number
  readonly clientId: string | null
  readonly group: string | undefined
  readonly partitions: readonly { readonly topic: string; readonly partition: number }[]
}

/** A rule that struck a request. */
export interface Strike {
  readonly action: FaultAction
  readonly delayMs: number
  /** Which partitions a number applies to; undefined for the whole request. */
  readonly only: ((topic: string, partition: number) => boolean) | undefined
}

class Armed implements Fault {
  readonly rule: FaultRule
  readonly #withdraw: (fault: Armed) => void
  struck = 0
  seen = 0

  constructor(rule: FaultRule, withdraw: (fault: Armed) => void) {
    this.rule = rule
    this.#withdraw = withdraw
  }

  [Symbol.dispose](): void {
    this.#withdraw(this)
  }
}

export class Faults {
  readonly #armed: Armed[] = []

  add(rule: FaultRule): Fault {
    const fault = new Armed(rule, (gone) => {
      const at = this.#armed.indexOf(gone)
      if (at >= 0) this.#armed.splice(at, 1)
    })
    this.#armed.push(fault)
    return fault
  }

  get any(): boolean {
    return this.#armed.length > 0
  }

  /** The rule that strikes this request, counted as used; undefined for none. */
  strike(subject: Subject): Strike | undefined {
    for (const fault of this.#armed) {
      const { rule } = fault
      if (!matches(rule, subject)) continue
      fault.seen += 1
      if (fault.seen <= (rule.skip ?? 0)) continue
      fault.struck += 1
      if (fault.struck >= (rule.times ?? 1)) fault[Symbol.dispose]()
      const partial = rule.topic !== undefined || rule.partition !== undefined
      return {
        action: rule.respond,
        delayMs: rule.delayMs ?? 0,
        only: partial ? (topic, partition) => hits(rule, topic, partition) : undefined,
      }
    }
    return undefined
  }
}

function hits(rule: FaultRule, topic: string, partition: number): boolean {
  return (rule.topic ?? topic) === topic && (rule.partition ?? partition) === partition
}

function matches(rule: FaultRule, subject: Subject): boolean {
  if (rule.api !== subject.api) return false
  if (rule.node !== undefined && rule.node !== subject.node) return false
  if (rule.clientId !== undefined && rule.clientId !== subject.clientId) return false
  if (rule.group !== undefined && rule.group !== subject.group) return false
  if (rule.topic === undefined && rule.partition === undefined) return true
  return subject.partitions.some(({ topic, partition }) => hits(rule, topic, partition))
}
