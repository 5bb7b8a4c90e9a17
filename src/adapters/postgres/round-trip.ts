/**
 * Several statements with parameters in one round trip.
 *
 * `pg` sends one statement and waits for its answer before it sends the next. The protocol does not ask for that:
 * parse, bind and execute of several statements may go out together with one sync at the end, and when one fails the
 * server skips the rest. `pg` lets an object with a `submit` method write to the connection (its cursors do), which is
 * what `Batch` does. A client in `pg`'s own pipeline mode, or one without that connection, gets plain queries.
 */
import type { ClientShape } from './shape.ts'

/** A statement; values are text, bytes or null, nothing that needs mapping. */
export interface Statement {
  readonly text: string
  readonly values: readonly (string | Uint8Array | null)[]
}

/** What one statement of a round trip answered: its command tag and its rows as text. */
export interface StepAnswer {
  readonly command: string
  readonly rows: readonly (readonly (string | null)[])[]
}

interface ConnectionShape {
  parse(message: { text: string; name?: string; types?: number[] }): void
  bind(message: { portal?: string; statement?: string; values?: unknown[] }): void
  describe(message: { type: 'P' | 'S'; name?: string }): void
  execute(message: { portal?: string; rows?: number }): void
  sync(): void
  readonly stream?: { cork?(): void; uncork?(): void }
}

interface SubmittingClient {
  readonly connection?: Partial<ConnectionShape>
  readonly pipeline?: boolean
  query(batch: Batch): unknown
}

const bytesOf = (value: Uint8Array): Buffer => Buffer.from(value.buffer, value.byteOffset, value.byteLength)
const bindable = (value: string | Uint8Array | null): unknown =>
  value === null || typeof value === 'string' ? value : bytesOf(value)

/** The object `pg` submits and feeds. Its methods are the names `pg` calls. */
class Batch {
  readonly #statements: readonly Statement[]
  readonly #answers: StepAnswer[] = []
  #rows: (string | null)[][] = []
  #failed = false
  /** `pg` may wrap it to add its `query_timeout`. */
  callback: (error: unknown, answers?: readonly StepAnswer[]) => void

  constructor(statements: readonly Statement[], callback: (error: unknown, answers?: readonly StepAnswer[]) => void) {
    this.#statements = statements
    this.callback = callback
  }

  submit(connection: ConnectionShape): null {
    connection.stream?.cork?.()
    try {
      for (const { text, values } of this.#statements) {
        connection.parse({ text, name: '', types: [] })
        connection.bind({ portal: '', statement: '', values: values.map(bindable) })
        connection.describe({ type: 'P', name: '' })
        connection.execute({ portal: '', rows: 0 })
      }
      connection.sync()
    } finally {
      connection.stream?.uncork?.()
    }
    return null
  }

  handleRowDescription(): void {
    this.#rows = []
  }

  handleDataRow(message: { fields: (string | null)[] }): void {
    this.#rows.push(message.fields)
  }

  handleCommandComplete(message: { text: string }): void {
    this.#answers.push({ command: message.text.split(' ', 1)[0] ?? '', rows: this.#rows })
    this.#rows = []
  }

  handleEmptyQuery(): void {
    this.#answers.push({ command: '', rows: [] })
  }

  handlePortalSuspended(): void {
    this.handleError(new Error('a portal was suspended although all rows were asked for'))
  }

  handleCopyInResponse(connection: { sendCopyFail?(text: string): void }): void {
    connection.sendCopyFail?.('no copy in a round trip of ottla')
  }

  handleCopyData(): void {}

  handleError(error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    this.callback(error)
  }

  handleReadyForQuery(): void {
    if (!this.#failed) this.callback(null, this.#answers)
  }
}

function textRows(rows: readonly Record<string, unknown>[]): (string | null)[][] {
  return rows.map((row) => Object.values(row).map((value) => (value === null ? null : String(value))))
}

/** Runs the statements in order, in one round trip where the client allows it. The first failure is thrown. */
export async function roundTrip(client: ClientShape, statements: readonly Statement[]): Promise<readonly StepAnswer[]> {
  const submitting = client as unknown as SubmittingClient
  const { connection } = submitting
  if (
    submitting.pipeline !== true &&
    typeof connection?.parse === 'function' &&
    typeof connection.sync === 'function'
  ) {
    return new Promise((resolve, reject) => {
      submitting.query(
        new Batch(statements, (error, answers) => {
          if (error) reject(error)
          else resolve(answers ?? [])
        }),
      )
    })
  }
  const ask = async ({ text, values }: Statement): Promise<StepAnswer> => {
    const answer = await client.query(text, values.map(bindable))
    return { command: answer.command ?? '', rows: textRows(answer.rows) }
  }
  if (submitting.pipeline === true) {
    const settled = await Promise.allSettled(statements.map(ask))
    return settled.map((one) => {
      if (one.status === 'rejected') throw one.reason
      return one.value
    })
  }
  const answers: StepAnswer[] = []
  for (const statement of statements) answers.push(await ask(statement))
  return answers
}
