/**
 * One connection, from pool to pool, with the transaction on it.
 *
 *   open ──► idle ◄──► running (one statement or round trip at a time, in call order)
 *              │            │
 *              │ finish     │ abandon: cancel the statement through another connection,
 *              ▼            ▼          roll back; whatever is not done after 1 s is closed
 *            released     released or closed
 *
 * After `abandon` nothing runs any more: waiting statements fail with the reason given.
 */
import { OttlaError } from '../../contract/errors.ts'
import { isConnectionFailure, unavailable } from './failure.ts'
import { roundTrip, type Statement, type StepAnswer } from './round-trip.ts'
import type { ClientShape, PoolShape, QueryAnswer } from './shape.ts'

/** How long a rollback may take before the connection is closed instead. */
const closeAfterMs = 1_000

export class Checkout {
  readonly #pool: PoolShape
  readonly #client: ClientShape
  /** The server's process, known after the first round trip; for cancelling. */
  backendPid: number | null = null
  #tail: Promise<unknown> = Promise.resolve()
  #running = false
  #released = false
  #broken: Error | null = null
  #abandoned: { readonly reason: unknown; readonly done: Promise<void> } | null = null
  readonly #onError = (error: Error): void => {
    this.#broken ??= error
  }

  private constructor(pool: PoolShape, client: ClientShape) {
    this.#pool = pool
    this.#client = client
    // Without a listener a connection that breaks between statements would end the process.
    client.on('error', this.#onError)
  }

  /** Takes a connection. When `signal` aborts first, its reason is thrown and the connection goes back later. */
  static async open(pool: PoolShape, signal?: AbortSignal): Promise<Checkout> {
    signal?.throwIfAborted()
    const connecting = pool.connect()
    let onAbort: (() => void) | undefined
    try {
      const client = signal
        ? await Promise.race([
            connecting,
            new Promise<never>((_, reject) => {
              onAbort = () => reject(signal.reason)
              signal.addEventListener('abort', onAbort, { once: true })
            }),
          ])
        : await connecting
      return new Checkout(pool, client)
    } catch (error) {
      if (signal?.aborted && error === signal.reason) {
        connecting.then(
          (client) => client.release(),
          () => undefined, // nobody waits for this connection any more
        )
        throw error
      }
      throw unavailable('a connection was taken from the pool', error)
    } finally {
      if (onAbort) signal?.removeEventListener('abort', onAbort)
    }
  }

  /** The error that broke the connection, if one did. */
  get broken(): Error | null {
    return this.#broken
  }

  /** The connection itself, for work outside of a transaction of ours. */
  get client(): ClientShape {
    return this.#client
  }

  /** Remembers that the connection is not to be used again, when this error says so. */
  noteFailure(error: unknown): void {
    if (isConnectionFailure(error)) this.#broken ??= error as Error
  }

  /** The connection is to be closed instead of being used again. */
  markBroken(error: Error): void {
    this.#broken ??= error
  }

  /** One statement, mapped by the driver as always. */
  query(text: string, values?: readonly unknown[]): Promise<QueryAnswer> {
    return this.#inTurn(() => (values ? this.#client.query(text, values as any[]) : this.#client.query(text)))
  }

  /** Several statements of ours in one round trip. */
  steps(statements: readonly Statement[]): Promise<readonly StepAnswer[]> {
    return this.#inTurn(() => roundTrip(this.#client, statements))
  }

  /** Resolves when nothing is running or waiting. */
  async quiet(): Promise<void> {
    let tail: unknown
    do {
      tail = this.#tail
      await this.#tail
    } while (tail !== this.#tail)
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#tail.then(async () => {
      if (this.#abandoned) throw this.#abandoned.reason
      if (this.#broken) throw unavailable('a statement was about to run', this.#broken)
      this.#running = true
      try {
        return await run()
      } catch (error) {
        if (isConnectionFailure(error)) this.#broken ??= error as Error
        throw error
      } finally {
        this.#running = false
      }
    })
    this.#tail = turn.then(
      () => undefined,
      () => undefined, // the caller has the rejection
    )
    return turn
  }

  /** Ends a transaction that shall not commit and gives the connection back. */
  async rollback(): Promise<void> {
    if (this.#abandoned) return this.#abandoned.done
    if (this.#released) return
    if (!this.#broken) await this.#rollbackWithin(closeAfterMs)
    this.release()
  }

  async #rollbackWithin(limitMs: number): Promise<void> {
    // In turn: statements that nobody awaited run, or fail, before it.
    const rolledBack = this.#tail
      .then(() => this.#client.query('rollback'))
      .catch((error: Error) => {
        this.#broken ??= error
      })
    if (!(await within(rolledBack, limitMs))) this.#broken ??= new Error('the rollback was not answered')
  }

  /** Gives the connection back, or closes it when it broke. */
  release(): void {
    if (this.#released) return
    this.#released = true
    // The listener of a broken connection stays: closing it may raise once more.
    if (this.#broken === null) this.#client.removeListener('error', this.#onError)
    this.#client.release(this.#broken ?? undefined)
  }

  /** Cancels what runs, rolls back and lets go of the connection; resolves when that is done, within about 1 s. */
  abandon(reason: unknown): Promise<void> {
    if (this.#abandoned) return this.#abandoned.done
    if (this.#released) return Promise.resolve()
    const done = this.#abandonNow()
    this.#abandoned = { reason, done }
    return done
  }

  async #abandonNow(): Promise<void> {
    const untilMs = performance.now() + closeAfterMs
    const left = (): number => Math.max(0, untilMs - performance.now())
    if (this.#running && !this.#broken) {
      const cancelled = this.#cancel()
      const [cancelDone, idle] = await Promise.all([within(cancelled, left()), within(this.#tail, left())])
      // A cancel request still under way could hit whoever has this connection next.
      if (!cancelDone || !idle) this.#broken ??= new Error('the statement was not cancelled within 1 s')
    }
    if (!this.#broken) await this.#rollbackWithin(Math.max(50, left()))
    this.release()
  }

  /** Asks the server, over another connection, to stop what runs here. */
  async #cancel(): Promise<void> {
    const pid = this.backendPid
    if (pid === null) return
    const askedMs = performance.now()
    let other: ClientShape
    try {
      other = await this.#pool.connect()
    } catch {
      return // closing the connection is what remains, and follows
    }
    try {
      // Long after, the process number may belong to somebody else.
      if (performance.now() - askedMs < 10_000) await other.query('select pg_cancel_backend($1)', [pid])
      other.release()
    } catch (error) {
      other.release(error as Error)
    }
  }
}

/** Did it settle within the limit? */
async function within(promise: Promise<unknown>, limitMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, limitMs, false)
  })
  try {
    return await Promise.race([
      promise.then(
        () => true,
        () => true,
      ),
      late,
    ])
  } finally {
    clearTimeout(timer)
  }
}

/** The error of a transaction that was given up: the signal's own when it is one of ours. */
export function deadlineError(reason: unknown): OttlaError {
  if (reason instanceof OttlaError) return reason
  return new OttlaError('OTTLA_RUNTIME_DEADLINE', 'the transaction was given up and rolled back', { cause: reason })
}
