/**
 * A retry budget: retries may be at most a share of the calls, however many callers want one.
 *
 * A bucket of tokens. Each call puts a share of a token in, each retry takes a whole one out, and without a token there
 * is no retry. So when everything fails, what fails is called 1.1 times as often, not 3 times, and layers of retries
 * do not multiply. The bucket begins full, so that the first failures of a quiet process may be retried.
 */

export interface RetryBudgetLimits {
  /** Retries per call in the long run, in [0, 1]. */
  readonly share: number
  /** Retries that may be saved up. */
  readonly savedMax: number
}

/** Counted in thousandths, because ten times 0.1 is not 1. */
const token = 1_000

export class RetryBudget {
  readonly #deposit: number
  readonly #max: number
  #thousandths: number

  constructor({ share, savedMax }: RetryBudgetLimits) {
    this.#deposit = Math.round(share * token)
    this.#max = savedMax * token
    this.#thousandths = this.#max
  }

  /** A call is made that is no retry. */
  called(): void {
    this.#thousandths = Math.min(this.#max, this.#thousandths + this.#deposit)
  }

  /** May a retry be made? Taken when it may. */
  take(): boolean {
    if (this.#thousandths < token) return false
    this.#thousandths -= token
    return true
  }
}
