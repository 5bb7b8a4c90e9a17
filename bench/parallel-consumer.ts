/** Confluent's Parallel Consumer: its jars, fetched once through Maven into `.cache`, and the program in `java/` that runs it. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { findProgram, runOk } from '../test/live/command.ts'
import { root } from './library.ts'
import { type Ended, runProgram } from './processes.ts'

/** The last one that Confluent published. */
export const parallelConsumerVersion = '0.5.3.2'

const cache = path.join(root, '.cache', `parallel-consumer-${parallelConsumerVersion}`)
const program = 'ParallelConsumerBench'

export class ParallelConsumer {
  readonly #java: string
  readonly #classPath: string

  private constructor(java: string, classPath: string) {
    this.#java = java
    this.#classPath = classPath
  }

  /** What of Java this machine lacks, in words, or null. */
  static missing(): string | null {
    for (const name of ['java', 'javac']) if (findProgram(name) === null) return `no \`${name}\` on PATH`
    return existsSync(path.join(cache, 'libs')) || findProgram('mvn') !== null ? null : 'no `mvn` on PATH'
  }

  /** Fetches the jars and compiles the program, unless that was done before. */
  static async prepare(): Promise<ParallelConsumer> {
    const libs = path.join(cache, 'libs')
    if (!existsSync(libs)) await fetchJars(libs)
    const jars = readdirSync(libs).map((name) => path.join(libs, name))
    const classes = path.join(cache, 'classes')
    const source = path.join(import.meta.dirname, 'java', `${program}.java`)
    const compiled = path.join(classes, `${program}.class`)
    if (!existsSync(compiled) || statSync(compiled).mtimeMs < statSync(source).mtimeMs) {
      mkdirSync(classes, { recursive: true })
      await runOk(findProgram('javac') ?? 'javac', ['-cp', jars.join(path.delimiter), '-d', classes, source], {
        timeoutMs: 120_000,
      })
    }
    return new ParallelConsumer(findProgram('java') ?? 'java', [classes, ...jars].join(path.delimiter))
  }

  run(task: {
    readonly servers: string
    readonly topic: string
    readonly count: number
    readonly warmUp: number
    readonly concurrency: number
    readonly sleepMs: number
  }): Promise<Ended> {
    const { servers, topic, count, warmUp, concurrency, sleepMs } = task
    const values = [count, warmUp, concurrency, sleepMs].map(String)
    return runProgram(this.#java, ['-Xmx1g', '-cp', this.#classPath, program, servers, topic, ...values])
  }
}

async function fetchJars(libs: string): Promise<void> {
  const maven = findProgram('mvn')
  if (maven === null) throw new Error('no jars of the Parallel Consumer in .cache and no `mvn` on PATH to fetch them')
  // Fetched beside and moved into place: a run that is interrupted leaves no half folder that looks whole.
  const work = `${libs}.${process.pid}`
  mkdirSync(work, { recursive: true })
  try {
    writeFileSync(
      path.join(work, 'pom.xml'),
      `<project><modelVersion>4.0.0</modelVersion><groupId>ottla</groupId><artifactId>bench-jars</artifactId><version>1</version><dependencies>
<dependency><groupId>io.confluent.parallelconsumer</groupId><artifactId>parallel-consumer-core</artifactId><version>${parallelConsumerVersion}</version></dependency>
</dependencies></project>\n`,
    )
    await runOk(
      maven,
      ['-q', '-B', 'dependency:copy-dependencies', '-DincludeScope=runtime', '-DoutputDirectory=jars'],
      {
        cwd: work,
        timeoutMs: 600_000,
      },
    )
    renameSync(path.join(work, 'jars'), libs)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}
