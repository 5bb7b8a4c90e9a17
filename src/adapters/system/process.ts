/** The process, as an app with `guards: true` owns it. */
import type { OwnedProcess } from '../../runtime/guards.ts'

const faults = ['unhandledRejection', 'uncaughtException'] as const

export const ownedProcess: OwnedProcess = {
  onFault(listener) {
    const onFault = (error: unknown): void => listener(error)
    for (const fault of faults) process.on(fault, onFault)
    return {
      [Symbol.dispose]: () => {
        for (const fault of faults) process.off(fault, onFault)
      },
    }
  },
  exit: (code) => process.exit(code),
}
