/** What mortal members write down of their lives, and how they are started. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

/** What a mortal member is told when it is started. */
export interface MortalOptions {
  readonly bootstrapServers: string
  readonly topic: string
  readonly service: string
  readonly partitions: number
  readonly handlerMs: number
  readonly mended: boolean
  /** The file it writes. */
  readonly diary: string
}

/** A line of a diary: a handler started, failed or came to its end; `settled`: some record of partition `n` left the books. */
export interface Entry {
  readonly what: 'up' | 'start' | 'fail' | 'end' | 'settled'
  readonly key: string
  readonly n: number
  readonly attempt: number
}

/** One process and its diary. */
export interface Life {
  readonly number: number
  readonly process: ChildProcess
  entries(): readonly Entry[]
}

export class Diary implements AsyncDisposable {
  readonly lives: Life[] = []
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'ottla-diary-'))
  readonly #options: Omit<MortalOptions, 'mended' | 'diary'>

  constructor(options: Omit<MortalOptions, 'mended' | 'diary'>) {
    this.#options = options
  }

  /** Starts a member. */
  begin(mended = false): Life {
    const diary = path.join(this.#folder, `${this.lives.length}`)
    const options: MortalOptions = { ...this.#options, mended, diary }
    const child = fork(path.join(import.meta.dirname, 'mortal-member.ts'), [], {
      execArgv: ['--conditions=@ottla/source', '--disable-warning=ExperimentalWarning'],
      env: { ...process.env, OTTLA_SHOW: JSON.stringify(options) },
      // A process that aborts says so at length.
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    })
    const life: Life = { number: this.lives.length, process: child, entries: () => read(diary) }
    this.lives.push(life)
    return life
  }

  /** Every entry of every life so far, oldest life first. */
  entries(): readonly Entry[] {
    return this.lives.flatMap((life) => life.entries())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { process: child } of this.lives) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** Complete lines only: the last one may be half written when its process died. */
function read(file: string): Entry[] {
  if (!existsSync(file)) return []
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1)
  return lines.map((line) => {
    const [what, key = '', n, attempt] = line.split(' ')
    return { what: what as Entry['what'], key, n: Number(n), attempt: Number(attempt) }
  })
}
