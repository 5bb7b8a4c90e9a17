/**
 * One transaction of ours around somebody's work.
 *
 *   begin + first statement ──► work (tx open) ──► tx closed ──► outbox rows + commit ──► done
 *            │                      │ throws, or signal aborts          │ anything but COMMIT
 *            └──────────────────────┴──► rolled back ◄──────────────────┘
 *
 * Outbox rows go out in the same round trip as the commit, after every lock the work took: their row numbers then
 * follow the order in which those locks were granted.
 */
import { OttlaError } from '../../contract/errors.ts'
import { steps } from '../../runtime/channels.ts'
import type { OutboxRecord } from '../../runtime/ports.ts'
import { type Checkout, deadlineError } from './checkout.ts'
import { isConnectionFailure, ourFailure, sqlState, unavailable } from './failure.ts'
import { outboxInserts } from './outbox.ts'
import type { Statement } from './round-trip.ts'
import type { PostgresTx } from './shape.ts'
import { transactionCommand } from './statement-guard.ts'

/** `tx` in a handler's hands, until it is closed. */
export class OpenTx implements PostgresTx {
  readonly #checkout: Checkout
  #closed: OttlaError | null = null
  /** The first error a statement met; PostgreSQL refuses to commit after it. */
  firstError: unknown = null

  constructor(checkout: Checkout) {
    this.#checkout = checkout
  }

  close(error: OttlaError): void {
    this.#closed ??= error
  }

  async query(text: string, values?: readonly unknown[]): Promise<{ rows: any[]; rowCount: number | null }> {
    if (this.#closed) throw this.#closed
    if (typeof text !== 'string') {
      throw new OttlaError('OTTLA_STORE_TX', 'tx.query takes the statement as a text, and its values as an array')
    }
    const command = transactionCommand(text)
    if (command !== null) {
      throw new OttlaError(
        'OTTLA_STORE_TX',
        `tx.query refuses "${command}": ottla begins and ends this transaction; throw to roll it back, use a savepoint to undo a part`,
      )
    }
    try {
      return await this.#checkout.query(text, values)
    } catch (error) {
      const said = isConnectionFailure(error) ? unavailable('a statement of the handler ran', error) : error
      // A failed savepoint section is repaired by `rollback to`; the commit's own answer has the last word.
      if (sqlState(error) !== undefined) this.firstError ??= error
      throw said
    }
  }
}

export const begin: Statement = { text: 'begin', values: [] }
const commit: Statement = { text: 'commit', values: [] }

export interface TransactionOptions {
  readonly checkout: Checkout
  readonly shards: number
  readonly signal?: AbortSignal
  /** Sent with `begin`; says whether to go on. Its failure is reported as that of a statement of ours. */
  readonly first: Statement
  /** Facts for the channels of the durable steps. */
  readonly facts: object
}

/** What the first statement said: go on with the work, or leave. */
export type Entry<L> = { readonly enter: true } | { readonly enter: false; readonly result: L }

/**
 * Runs `work` in a transaction and commits. The checkout is given back in every case. `read` looks at the answer of
 * `first`: one row of texts. `records` of what work returned are written last.
 */
export async function runTransaction<W, L>(
  options: TransactionOptions,
  read: (row: readonly (string | null)[]) => Entry<L>,
  work: (tx: PostgresTx) => Promise<{ readonly value: W; readonly records: readonly OutboxRecord[] }>,
): Promise<W | L> {
  const { checkout, signal } = options
  const tx = new OpenTx(checkout)
  let finishing = false
  const onAbort = (): void => {
    // Once the commit is on its way its answer decides, unless none comes.
    if (finishing) return
    const error = deadlineError(signal?.reason)
    tx.close(error)
    void checkout.abandon(error)
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  if (signal?.aborted) onAbort()
  try {
    const answers = await checkout.steps([begin, options.first]).catch((error) => {
      throw ourFailure('a transaction was opened', error)
    })
    const row = answers.at(-1)?.rows[0]
    if (row === undefined) throw unavailable('a transaction was opened', new Error('an answer without a row'))
    const entry = read(row)
    if (!entry.enter) return entry.result
    const done = await work(tx)
    tx.close(new OttlaError('OTTLA_STORE_TX', 'tx was used after its handler had returned: await every tx.query'))
    // Statements that were not awaited still belong to the transaction.
    await checkout.quiet()
    if (signal?.aborted) throw deadlineError(signal.reason)
    finishing = true
    await finish(options, tx, done.records, signal)
    return done.value
  } catch (error) {
    if (signal?.aborted && !finishing) {
      await checkout.abandon(signal.reason)
      throw deadlineError(signal.reason)
    }
    // A connection that died under the work explains whatever the work threw.
    if (checkout.broken && !(error instanceof OttlaError && error.code === 'OTTLA_STORE_UNAVAILABLE')) {
      throw unavailable('a transaction was open', checkout.broken)
    }
    throw error
  } finally {
    signal?.removeEventListener('abort', onAbort)
    tx.close(new OttlaError('OTTLA_STORE_TX', 'tx was used after its transaction had ended'))
    await checkout.rollback()
  }
}

/** Grace for a commit on its way when the deadline passes. */
const commitGraceMs = 5_000

async function finish(
  { checkout, shards, facts }: TransactionOptions,
  tx: OpenTx,
  records: readonly OutboxRecord[],
  signal: AbortSignal | undefined,
): Promise<void> {
  if (steps.dbBeforeCommit.hasSubscribers) steps.dbBeforeCommit.publish({ ...facts, records: records.length })
  let timer: NodeJS.Timeout | undefined
  const giveUp = (): void => {
    timer = setTimeout(() => void checkout.abandon(new Error('the commit was not answered')), commitGraceMs)
  }
  signal?.addEventListener('abort', giveUp, { once: true })
  try {
    const answers = await checkout.steps([...outboxInserts(records, shards), commit])
    if (answers.at(-1)?.command !== 'COMMIT') {
      throw (
        tx.firstError ??
        new OttlaError('OTTLA_STORE_TX', 'the transaction was rolled back: a statement in it had failed')
      )
    }
    checkout.release()
  } catch (error) {
    // 25P02: the transaction had failed before; the statement that made it fail is what matters.
    if (sqlState(error) === '25P02' && tx.firstError !== null) throw tx.firstError
    throw ourFailure('a transaction was committed (its outcome is unknown; repeating it is safe for a handler)', error)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', giveUp)
  }
  if (steps.dbAfterCommit.hasSubscribers) steps.dbAfterCommit.publish({ ...facts, records: records.length })
}
