/** Takes orders until all have come. */
import type { Meter } from './meter.ts'
import { type Order, OrderTally } from './orders.ts'
import type { ArmResult, Task } from './task.ts'

export function counted(
  task: Task,
  meter: Meter,
): {
  readonly take: (order: Order) => void
  readonly done: Promise<ArmResult>
  readonly failed: (error: unknown) => void
} {
  const tally = new OrderTally()
  const { promise: done, resolve, reject } = Promise.withResolvers<ArmResult>()
  const take = (order: Order): void => {
    tally.take(order)
    meter.reached(tally.count)
    if (tally.count === task.count) resolve({ sums: tally.sums() })
  }
  return { take, done, failed: reject }
}
