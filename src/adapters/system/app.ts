/** `app`: the engine on this machine's clock, randomness and console. */
import { hostname } from 'node:os'
import { RunningApp } from '../../runtime/app.ts'
import type { AppDefinition, NameOf } from '../../runtime/app-types.ts'
import type { OperableApp } from '../../runtime/operations.ts'
import type { Log } from '../../runtime/ports.ts'
import type { AnyService } from '../../runtime/service.ts'
import type { LooseDefinition } from '../../runtime/wiring.ts'
import { systemClock } from './clock.ts'
import { ownedProcess } from './process.ts'

/** Warnings and errors to the console; the rest is not said. */
export const consoleLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: (text, fields) => console.warn(text, fields ?? ''),
  error: (text, fields) => console.error(text, fields ?? ''),
}

/**
 * Puts services, a transport and a store together. Nothing happens before `start()`.
 * Throws OTTLA_RUNTIME_WIRING with every problem of the definition.
 */
export function app<const S extends readonly AnyService[]>(
  definition: AppDefinition<S>,
): OperableApp<NameOf<S[number]>> {
  const machine = {
    clock: systemClock,
    log: consoleLog,
    random: Math.random,
    instance: `${hostname()}-${process.pid}`,
    process: ownedProcess,
  }
  return new RunningApp(definition as unknown as LooseDefinition, machine) as unknown as OperableApp<NameOf<S[number]>>
}
