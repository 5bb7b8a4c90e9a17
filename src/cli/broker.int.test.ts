import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { findProgram, run, runOk } from '../../test/live/command.ts'

const main = path.resolve(import.meta.dirname, 'main.ts')

/** Starts `ottla broker` with the arguments and gives its first line of output. */
async function startBrokerCommand(...args: string[]) {
  const child = spawn(process.execPath, [main, 'broker', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
  const [firstLine] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return {
    child,
    firstLine,
    exited,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await exited
    },
  }
}

test('broker -o json prints one line that holds the port it took', async () => {
  await using broker = await startBrokerCommand('--port', '0', '-o', 'json')
  const said = JSON.parse(broker.firstLine) as { port: number; bootstrapServers: string }
  assert.ok(said.port > 0)
  assert.equal(said.bootstrapServers, `127.0.0.1:${said.port}`)
})

test('broker says what it is and is not for, and ends with 0 on SIGINT', async () => {
  await using broker = await startBrokerCommand('--port', '0')
  assert.match(broker.firstLine, /embedded Kafka at 127\.0\.0\.1:\d+/)
  broker.child.kill('SIGINT')
  assert.deepEqual(await broker.exited, [0, null])
})

test('a port that is taken is an error with a code and no stack', async () => {
  await using first = await startBrokerCommand('--port', '0', '-o', 'json')
  const { port } = JSON.parse(first.firstLine) as { port: number }
  const second = await run(process.execPath, [main, 'broker', '--port', String(port)])
  assert.equal(second.code, 2)
  assert.match(second.stderr, /^error: .*\nOTTLA_CONFIG_INVALID: /)
  assert.doesNotMatch(second.stderr, /\n\s+at /)
})

test('kcat writes to and reads from ottla broker', {
  skip: findProgram('kcat') === null ? 'no kcat on PATH' : false,
}, async () => {
  await using broker = await startBrokerCommand('--port', '0', '-o', 'json', '--topic', 'orders:3')
  const { bootstrapServers } = JSON.parse(broker.firstLine) as { bootstrapServers: string }
  await runOk('kcat', ['-b', bootstrapServers, '-P', '-t', 'orders', '-K', ':'], { input: 'a:1\nb:2\na:3\n' })
  const read = await runOk('kcat', ['-b', bootstrapServers, '-C', '-t', 'orders', '-e', '-q', '-f', '%k=%s\n'])
  assert.deepEqual(read.trim().split('\n').sort(), ['a=1', 'a=3', 'b=2'])
})
