/**
 * A member of a service in a process of its own, for shows in which processes die. What its handlers do is written to a
 * file as it happens, so that it outlives the process; see `Diary` for reading it. Started by `fork`.
 *
 * Until it is told that they are mended, keys that begin with `bad` fail for an unknown reason, with `poison` for good and
 * with `away` for a passing one. A key that begins with `killer` takes the process with it.
 */
import { appendFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { kafka } from '../../src/adapters/kafka/transport.ts'
import { app } from '../../src/adapters/system/app.ts'
import { PermanentError } from '../../src/contract/errors.ts'
import { topic } from '../../src/contract/topic.ts'
import { type Ended, ended } from '../../src/runtime/channels.ts'
import { service } from '../../src/runtime/service.ts'
import type { MortalOptions } from './diary.ts'
import { quiet } from './stage.ts'

const given = JSON.parse(process.env['OTTLA_SHOW'] ?? '{}') as MortalOptions
const Orders = topic(given.topic, {
  key: 'key',
  partitions: given.partitions,
  events: { Placed: z.object({ key: z.string(), n: z.int() }) },
})
let { mended } = given
const write = (...words: readonly (string | number)[]) => appendFileSync(given.diary, `${words.join(' ')}\n`)

const worker = service(given.service, { afterDeadLetter: 'hold' }).on(
  Orders.Placed,
  async ({ key, n }, { message: { attempt } }) => {
    write('start', key, n, attempt)
    if (key.startsWith('killer')) process.abort()
    await sleep(given.handlerMs)
    if (!mended && /^(bad|poison|away)/.test(key)) {
      write('fail', key, n, attempt)
      if (key.startsWith('bad')) throw new Error('this customer does not work')
      if (key.startsWith('poison')) throw new PermanentError('no such customer')
      throw Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' })
    }
    write('end', key, n, attempt)
  },
)
ended.subscribe((record) => write('settled', '-', (record as Ended).partition, 0))
const consumer = { heartbeatIntervalMs: 300, sessionTimeoutMs: 3_000, fetchMaxWaitMs: 50 }
const running = await app({
  transport: kafka({ bootstrapServers: given.bootstrapServers, consumer }),
  services: [worker],
  topics: 'create',
  drainTimeout: 3_000,
  log: quiet,
}).start()
write('up', '-', 0, 0)

process.on('message', (message: 'mend' | 'end') => {
  if (message === 'mend') mended = true
  else void running[Symbol.asyncDispose]().then(() => process.exit(0))
})
process.once('disconnect', () => process.exit(1))
