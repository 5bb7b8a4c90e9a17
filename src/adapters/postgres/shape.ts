/**
 * What of `pg` the store leans on, by shape: nothing is imported, so any version or look-alike that answers these
 * calls will do. Also the `tx` handed to handlers.
 */

/** What a statement answered. */
export interface QueryAnswer<Row = any> {
  readonly rows: Row[]
  readonly rowCount: number | null
  /** The command tag's first word: SELECT, COMMIT, ROLLBACK … */
  readonly command?: string
}

/** A connection checked out of the pool. */
export interface ClientShape {
  query(text: string, values?: any[]): Promise<QueryAnswer>
  /** Gives the connection back; with an error or `true` it is closed instead. */
  release(error?: Error | boolean): void
  on(event: 'error', listener: (error: Error) => void): unknown
  removeListener(event: 'error', listener: (error: Error) => void): unknown
}

/** `pg`'s `Pool`. The pool stays the caller's: the store never ends it. */
export interface PoolShape {
  connect(): Promise<ClientShape>
  on?(event: 'error', listener: (error: Error) => void): unknown
  removeListener?(event: 'error', listener: (error: Error) => void): unknown
  /** `max` is the pool size; 10 when the pool does not say. */
  readonly options?: { readonly max?: number | undefined } | undefined
}

/**
 * The transaction of a handler or of `transact`. It belongs to ottla: statements that begin or end transactions are
 * refused, savepoints are allowed, and after the deadline or the end of the handler every call throws OTTLA_STORE_TX or
 * OTTLA_RUNTIME_DEADLINE.
 */
export interface PostgresTx {
  /** Runs a statement in the transaction. Statements started at the same time run one after the other. */
  query<Row = any>(text: string, values?: readonly unknown[]): Promise<{ rows: Row[]; rowCount: number | null }>
}
