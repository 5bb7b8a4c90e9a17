/** What the kill test and its load process say to each other. */

export type ToLoad =
  /** Send some orders at once and kill the process while they are open. */
  | { readonly type: 'kill'; readonly pid: number }
  /** Place no more orders, send the open ones until each has its 202, and report. */
  | { readonly type: 'stop' }

export type FromLoad =
  /** Requests that were open when the connections of the killed process broke. */
  { readonly type: 'broken'; readonly open: number } | { readonly type: 'report'; readonly report: LoadReport }

export interface LoadReport {
  readonly placed: number
  /** Orders whose 202 was read: all of them at the end. */
  readonly accepted: readonly string[]
  /** Answers that were no 202, as `status body`; the order was sent again. */
  readonly refused: readonly string[]
}
