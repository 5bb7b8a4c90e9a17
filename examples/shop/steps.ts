/**
 * Prints each step of an order as it happens: event, topic-partition@offset, service, milliseconds since the request.
 * Everything comes from Node's diagnostics channels; the services know nothing of it.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { type Mailed, mailed } from './mailer.ts'

/** What ottla says on `ottla:record.published` and `ottla:record.ended`, as far as it is needed here. */
export interface Published {
  readonly source: string
  readonly topic: string
  readonly partition: number
  readonly position: number
  readonly type: string
  readonly id: string
  readonly key: string | null
}
interface Ended extends Omit<Published, 'source'> {
  readonly service: string
  readonly outcome: string
  readonly attempts: number
  readonly durationMs: number
}
interface OutboxState {
  readonly state: 'stalled' | 'flowing'
  readonly rows: number
  readonly error?: Error
}

export interface Steps extends Disposable {
  /** From now on the steps of this order show how long after its request they happened. */
  requested(orderId: string, atMs: number): void
}

/** Orders whose clock runs; beyond this the oldest one's steps are printed without it. */
const maxRunning = 10_000

/** Prints until disposed. */
export function printSteps(print: (line: string) => void): Steps {
  const running = new Map<string, number>()
  const line = (orderId: string | null, what: string, where: string, who: string): void => {
    const atMs = orderId === null ? undefined : running.get(orderId)
    const since = atMs === undefined ? '' : `+${Math.round(performance.now() - atMs)} ms`
    print(`${since.padStart(9)}  ${what.padEnd(14)} ${where.padEnd(18)} ${who}`)
  }
  const listeners: Readonly<Record<string, (message: any) => void>> = {
    'ottla:record.published': (message: Published) =>
      line(message.key, eventName(message.type), place(message), `published by ${message.source}`),
    'ottla:record.ended': (message: Ended) => {
      const tries = message.attempts > 1 ? `, attempt ${message.attempts}` : ''
      line(message.key, eventName(message.type), place(message), `${message.outcome} by ${message.service}${tries}`)
      if (message.service === 'notification' && message.key !== null) running.delete(message.key)
    },
    [mailed.name as string]: (message: Mailed) => line(message.orderId, 'mail', message.to, `"${message.subject}"`),
    'ottla:outbox.state': ({ state, rows, error }: OutboxState) =>
      print(
        state === 'stalled'
          ? `Kafka is away (${error?.message ?? 'no answer'}): orders are accepted, ${rows} events wait in the outbox`
          : `Kafka is back: ${rows} events were waiting in the outbox`,
      ),
    'ottla:alarm': ({ service, topic, partition, error }: Alarm) =>
      print(`ALARM ${[service, topic, partition].filter((part) => part !== undefined).join(' ')}: ${error?.message}`),
  }
  for (const [name, listener] of Object.entries(listeners)) subscribe(name, listener)
  return {
    requested(orderId, atMs) {
      // The same order sent again: its steps are counted from the first request.
      if (!running.has(orderId)) running.set(orderId, atMs)
      const oldest = running.keys().next()
      if (running.size > maxRunning && !oldest.done) running.delete(oldest.value)
    },
    [Symbol.dispose]() {
      for (const [name, listener] of Object.entries(listeners)) unsubscribe(name, listener)
    },
  }
}

interface Alarm {
  readonly service?: string
  readonly topic?: string
  readonly partition?: number
  readonly error?: Error
}

const eventName = (type: string): string => type.slice(type.lastIndexOf('.') + 1)
const place = ({ topic, partition, position }: { topic: string; partition: number; position: number }): string =>
  `${topic}-${partition}@${position}`
