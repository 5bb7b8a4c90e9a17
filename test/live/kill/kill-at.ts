/**
 * Preloaded into a process that is to die at a durable step: `node --import ./test/live/kill/kill-at.ts main.ts`.
 *
 * `OTTLA_KILL_AT=relay.after_send:3` lets two messages of the channel `ottla:relay.after_send` pass and ends the process
 * with SIGKILL inside the third: publishing is synchronous, so nothing of the program runs after the step.
 */
import { subscribe } from 'node:diagnostics_channel'

const [step, count = '1'] = (process.env['OTTLA_KILL_AT'] ?? '').split(':')
let left = Number(count)
if (step === undefined || step === '' || !(left >= 1)) {
  throw new Error(`OTTLA_KILL_AT is step:count, not '${process.env['OTTLA_KILL_AT']}'`)
}
subscribe(`ottla:${step}`, () => {
  left -= 1
  if (left === 0) process.kill(process.pid, 'SIGKILL')
})
