/** CPU time (user and system, all threads of the process) and wall time from the end of the warm-up to the end. */
export class Meter {
  readonly #warmUp: number
  readonly #count: number
  #cpu: NodeJS.CpuUsage | null = null
  #startMs = 0
  #cpuUs = 0
  #wallMs = 0

  constructor(warmUp: number, count: number) {
    this.#warmUp = warmUp
    this.#count = count
    if (warmUp === 0) this.#begin()
  }

  /** `done` messages are handled. To be called for at least `warmUp` and the last. */
  reached(done: number): void {
    if (done === this.#warmUp) this.#begin()
    if (done === this.#count) this.#end()
  }

  get cpuUsPerMessage(): number {
    return this.#cpuUs / (this.#count - this.#warmUp)
  }

  get messagesPerSecond(): number {
    return ((this.#count - this.#warmUp) * 1000) / this.#wallMs
  }

  #begin(): void {
    this.#startMs = performance.now()
    this.#cpu = process.cpuUsage()
  }

  #end(): void {
    if (this.#cpu === null) throw new Error('the end came before the warm-up was over')
    const { user, system } = process.cpuUsage(this.#cpu)
    this.#cpuUs = user + system
    this.#wallMs = performance.now() - this.#startMs
  }
}
