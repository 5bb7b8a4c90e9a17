/** Runs a program that is not ours and collects what it says. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** A running program; disposing kills it. */
export class ForeignTool implements AsyncDisposable {
  readonly lines: string[] = []
  readonly #child: ChildProcess
  readonly #ended: Promise<number | null>
  readonly #watchers = new Set<() => void>()
  #errors = ''
  #over = false

  constructor(command: string, args: readonly string[]) {
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    const output = createInterface({ input: this.#child.stdout! })
    output.on('line', (line) => {
      this.lines.push(line)
      this.#look()
    })
    this.#child.stderr!.on('data', (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(-4000)
    })
    // A program that ends before it has read everything breaks the pipe; its exit code says what happened.
    this.#child.stdin!.on('error', () => {})
    this.#ended = Promise.all([once(this.#child, 'close'), once(output, 'close')]).then(([[code]]) => {
      this.#over = true
      this.#look()
      return code as number | null
    })
  }

  get errors(): string {
    return this.#errors
  }

  write(text: string): void {
    this.#child.stdin!.write(text)
  }

  /** Ends its input. */
  end(text = ''): this {
    this.#child.stdin!.end(text)
    return this
  }

  /** Its output, once it has ended by itself with code 0. */
  async output(): Promise<readonly string[]> {
    const code = await this.#ended
    if (code !== 0) throw new Error(`${this.#child.spawnfile} ended with ${code}: ${this.#errors}`)
    return this.lines
  }

  /** Waits until its output fulfils a condition; throws when it ends before. */
  async until(what: string, holds: (lines: readonly string[]) => boolean): Promise<void> {
    while (!holds(this.lines)) {
      if (this.#over) throw new Error(`${this.#child.spawnfile} ended before ${what}: ${this.#errors}`)
      await new Promise<void>((resolve) => {
        const tell = (): void => {
          this.#watchers.delete(tell)
          resolve()
        }
        this.#watchers.add(tell)
      })
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#over) this.#child.kill('SIGKILL')
    await this.#ended
  }

  #look(): void {
    for (const tell of [...this.#watchers]) tell()
  }
}

/** Is this program installed? */
export function installed(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).error === undefined
}
