/**
 * Runs the shop. `main.ts` opens it, places a sample order and stays until Ctrl-C; `main.ts --once` places one order,
 * checks every trace of it and exits with 0 or 1.
 *
 *   opening ─► open ──first signal──► closing ─► exit 0
 *      └──────first signal──────────────┘└──another signal, 500 ms later or more──► exit at once
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { inspect, isDeepStrictEqual, parseArgs } from 'node:util'
import type { Log } from 'ottla'
import { demo } from './demo.ts'
import { openShop, type Shop } from './shop.ts'
import { firstSignal } from './signals.ts'
import { printSteps } from './steps.ts'

const print = (line: string): void => console.log(line)
const told = (level: string) => (text: string, fields?: object) =>
  console.error(
    `${level}: ${text}${fields === undefined ? '' : ` ${inspect(fields, { breakLength: Infinity, depth: 2 })}`}`,
  )
const log: Log = { debug: () => undefined, info: () => undefined, warn: told('warning'), error: told('error') }

/** Places an order as a customer would and resolves when its last step is done. */
async function sampleOrder(url: string): Promise<void> {
  const seen = new Set<string | null>()
  let look = (): void => undefined
  const onEnded = (message: unknown): void => {
    const { service, key } = message as { readonly service: string; readonly key: string | null }
    if (service === 'notification') seen.add(key)
    look()
  }
  subscribe('ottla:record.ended', onEnded)
  try {
    const response = await fetch(`${url}/orders`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ customer: 'ada@example.com', sku: 'pen', quantity: 2 }),
    })
    const { orderId } = (await response.json()) as { readonly orderId: string }
    print(`           POST /orders: ${response.status}, order ${orderId}`)
    await new Promise<void>((resolve) => {
      look = () => {
        if (seen.has(orderId)) resolve()
      }
      look()
    })
  } finally {
    unsubscribe('ottla:record.ended', onEnded)
  }
}

function howToGoOn({ url, ground }: Shop): readonly string[] {
  const servers = [ground.kafka.bootstrapServers].flat().join(',')
  const order = `{"customer":"you@example.com","sku":"ink","quantity":1}`
  return [
    '',
    `  another order   curl ${url}/orders -H 'content-type: application/json' -d '${order}'`,
    `  watch           kcat -C -b ${servers} -t orders -o beginning -f '%t-%p@%o %k %s\\n'`,
    `  metrics         ${url}/metrics`,
    `  ready           ${url}/readyz`,
    '  stop            Ctrl-C',
    '',
  ]
}

/** Stays open until the first signal. */
async function run(signal: Promise<void>): Promise<void> {
  using steps = printSteps(print)
  await using shop = await openShop({ environment: process.env, onRequest: steps.requested, log, guards: true })
  print(`The shop is open after ${Math.round(performance.now())} ms: ${shop.ground.description}`)
  const sample = sampleOrder(shop.url).then(() => {
    for (const line of howToGoOn(shop)) print(line)
  })
  await Promise.race([sample, signal])
  await signal
  print('closing: no new orders, what runs is finished')
}

/** One order, checked. Answers with the exit code. */
async function once(): Promise<number> {
  using steps = printSteps(print)
  await using shop = await openShop({ environment: process.env, onRequest: steps.requested, log, guards: true })
  print(`The shop is open after ${Math.round(performance.now())} ms: ${shop.ground.description}`)
  const checks = await demo(shop)
  let wrong = 0
  for (const { what, expected, found } of checks) {
    const good = isDeepStrictEqual(expected, found)
    if (!good) wrong++
    const shown = (value: unknown) => inspect(value, { breakLength: Infinity, depth: 5 })
    print(good ? `ok     ${what}` : `wrong  ${what}: expected ${shown(expected)}, found ${shown(found)}`)
  }
  return wrong === 0 ? 0 : 1
}

const { values: flags } = parseArgs({ options: { once: { type: 'boolean', default: false } } })
const signal = firstSignal()
try {
  if (flags.once) {
    const code = await Promise.race([once(), signal.then(() => 130)])
    process.exit(code)
  }
  await run(signal)
  print('closed')
  process.exit(0)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}
