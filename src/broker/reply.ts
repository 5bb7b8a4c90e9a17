/**
 * How a request ends: with an answer now, with one later, with none (acks 0), or with the connection closed.
 *
 * State machine of a `Wait`: open → answered (once; whoever listens is told) or cancelled (the connection is gone; its
 * clean-up runs, nobody is told).
 */

export type Reply<Body> =
  | { readonly kind: 'answer'; readonly body: Body }
  | { readonly kind: 'silence' }
  | { readonly kind: 'close'; readonly reason: string }
  | { readonly kind: 'wait'; readonly wait: Wait<Body> }

/** What is left to say once a wait is over. */
export type Settled<Body> = Exclude<Reply<Body>, { kind: 'wait' }>

/** A request that cannot be answered yet. */
export class Wait<Body> {
  #state: 'open' | 'answered' | 'cancelled' = 'open'
  #settled: Settled<Body> | null = null
  #listener: ((reply: Settled<Body>) => void) | null = null
  readonly #onCancel: (() => void) | null

  constructor(onCancel: (() => void) | null = null) {
    this.#onCancel = onCancel
  }

  get open(): boolean {
    return this.#state === 'open'
  }

  /** What it was answered with, once it was. */
  get settled(): Settled<Body> | null {
    return this.#settled
  }

  answer(body: Body): void {
    this.settle({ kind: 'answer', body })
  }

  settle(reply: Settled<Body>): void {
    if (this.#state !== 'open') return
    this.#state = 'answered'
    this.#settled = reply
    this.#listener?.(reply)
  }

  /** Tells `listener` once: now if answered already, never after a cancel. */
  whenSettled(listener: (reply: Settled<Body>) => void): void {
    if (this.#settled === null) this.#listener = listener
    else listener(this.#settled)
  }

  /** Nobody wants the answer any more. */
  cancel(): void {
    if (this.#state !== 'open') return
    this.#state = 'cancelled'
    this.#listener = null
    this.#onCancel?.()
  }
}

/** Runs `ask`, which calls back now or later, and makes a reply of it. */
export function whenAnswered<Body>(ask: (answer: (body: Body) => void) => void): Reply<Body> {
  const wait = new Wait<Body>()
  ask((body) => wait.answer(body))
  return wait.settled ?? { kind: 'wait', wait }
}

/** A reply for now. */
export function answer<Body>(body: Body): { readonly kind: 'answer'; readonly body: Body } {
  return { kind: 'answer', body }
}
