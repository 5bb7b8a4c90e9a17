/** Opens the dead letters of a service for the commands that look after them. */
import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { kafka } from '../adapters/kafka/transport.ts'
import { systemClock } from '../adapters/system/clock.ts'
import { serviceNames } from '../contract/names.ts'
import { DeadLetterDesk } from '../runtime/dlq.ts'
import type { Log } from '../runtime/ports.ts'
import { connectionOptions } from './connection.ts'
import { NotFoundError, say } from './output.ts'

export interface DeskFlags {
  readonly namespace?: string
}

export function addDeskOptions(command: Command): Command {
  return command.option('--namespace <name>', 'the namespace that the app was given')
}

/** Runs a command with the desk of a service, and closes it whatever happens. Throws NotFoundError for no such service. */
export async function withDesk<R>(
  command: Command,
  service: string,
  work: (desk: DeadLetterDesk) => Promise<R>,
): Promise<R> {
  const { namespace } = command.opts<DeskFlags>()
  const names = serviceNames(service, namespace)
  const transport = kafka(connectionOptions(command))
  try {
    for (const { topic, exists } of await transport.describe([names.control, names.deadLetters])) {
      if (!exists) throw new NotFoundError(`there is no topic '${topic}': no service '${service}' has run here`)
    }
    const desk = await DeadLetterDesk.open({
      transport,
      service,
      clock: systemClock,
      log: stderrLog,
      by: userInfo().username,
      ...(namespace === undefined ? {} : { namespace }),
    })
    try {
      return await work(desk)
    } finally {
      await desk[Symbol.asyncDispose]()
    }
  } finally {
    await transport[Symbol.asyncDispose]()
  }
}

const stderrLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: (text) => say(`warning: ${text}`),
  error: (text) => say(`error: ${text}`),
}
