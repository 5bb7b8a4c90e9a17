/**
 * Whose fault was it? A promise that a handler starts and does not await, a timer that it sets: when they fail, the
 * handler has long returned, and Node only knows that something in this process failed. Guards remember, along everything
 * asynchronous that a handler starts, which record it was handling.
 *
 * It costs each handler a walk through `AsyncLocalStorage`, and the answer to such a failure is the end of the process,
 * so it is on only where the app owns the process (`guards: true`).
 */
import { AsyncLocalStorage } from 'node:async_hooks'

/** The record a handler was given. */
export interface Blamed {
  readonly service: string
  readonly handler: string
  readonly topic: string
  readonly partition: number
  readonly position: number
  readonly id: string
}

export class Guards {
  readonly #storage = new AsyncLocalStorage<Blamed>()

  /** Runs a handler; whatever it starts is remembered as started for this record. */
  run<R>(record: Blamed, handler: () => R): R {
    return this.#storage.run(record, handler)
  }

  /** The record for which the code under way was started; null when for none. */
  get blamed(): Blamed | null {
    return this.#storage.getStore() ?? null
  }
}

/** The process, for an app that owns it. */
export interface OwnedProcess {
  /** Told what nobody caught, in the asynchronous context of what failed. Until disposed, Node does not end the process. */
  onFault(listener: (error: unknown) => void): Disposable
  exit(code: number): void
}
