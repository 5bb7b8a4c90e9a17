/** Runs one child to its end and reads the last line it prints. */
import { spawn } from 'node:child_process'
import path from 'node:path'

const childTimeoutMs = 300_000

export interface Ended {
  readonly lastLine: string
  readonly wallMs: number
}

/** Throws with what the child said when it fails, or takes longer than five minutes. */
export function runNode(args: readonly string[]): Promise<Ended> {
  return runProgram(process.execPath, args)
}

/** The same for any program. */
export function runProgram(program: string, args: readonly string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const startMs = performance.now()
    const child = spawn(program, [...args], {
      cwd: import.meta.dirname,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: childTimeoutMs,
      killSignal: 'SIGKILL',
    })
    let out = ''
    let said = ''
    let wallMs = 0
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      wallMs = performance.now() - startMs
      out += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-8192)
    })
    child.once('error', reject)
    child.once('close', (code, signal) => {
      const lastLine = out.trimEnd().split('\n').at(-1) ?? ''
      if (code === 0 && lastLine !== '') resolve({ lastLine, wallMs })
      else
        reject(new Error(`${args.map((a) => path.basename(a)).join(' ')} ended with ${code ?? signal}\n${said}${out}`))
    })
  })
}
