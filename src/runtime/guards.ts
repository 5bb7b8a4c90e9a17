/**
 * Whose fault was it? A promise that a handler starts and does not await, a timer that it sets: when they fail, the
 * handler has long returned, and Node only knows that something in this process failed. Guards remember, along everything
 * asynchronous that a handler starts, which record it was handling.
 *
 * It costs each handler a walk through `AsyncLocalStorage`, and the answer to such a failure is the end of the process,
 * so it is on only where the app owns the process (`guards: true`).
 */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'

/** The record a handler was given. */
export interface Blamed {
  readonly service: string
  readonly handler: string
  readonly topic: string
  readonly partition: number
  readonly position: number
  readonly id: string
}

/** An attempt that was begun; what is known of it is put together for whoever is blamed. */
export interface Started {
  readonly blamed: Blamed
}

export class Guards {
  readonly #storage = new AsyncLocalStorage<Started>()

  /** Goes back to where it was made when it returns, which is half the price of `AsyncLocalStorage.run`. */
  readonly #outside = new AsyncResource('ottla.guards')
  readonly #inside = <A, R>(attempt: Started, handler: (argument: A) => R, argument: A): R => {
    this.#storage.enterWith(attempt)
    return handler(argument)
  }

  /** Runs a handler; whatever it starts is remembered as started for this record. */
  run<A, R>(attempt: Started, handler: (argument: A) => R, argument: A): R {
    return this.#outside.runInAsyncScope(this.#inside, undefined, attempt, handler, argument) as R
  }

  /** The record for which the code under way was started; null when for none. */
  get blamed(): Blamed | null {
    return this.#storage.getStore()?.blamed ?? null
  }
}

/** The process, for an app that owns it. */
export interface OwnedProcess {
  /** Told what nobody caught, in the asynchronous context of what failed. Until disposed, Node does not end the process. */
  onFault(listener: (error: unknown) => void): Disposable
  exit(code: number): void
}
