/**
 * The load of the kill test, a process of its own: places orders at a steady rate and remembers what became of each.
 *
 * Every request stays open for a while: its body is sent in two halves with a pause between, so that a kill at any moment
 * finds some of them on their way, as it would with slow clients. An order that got no 202 is sent again, with the same
 * id, until it does: a customer who saw an error tries once more.
 *
 * Started by `fork` with one argument, JSON of `LoadOptions`; talks in `ToLoad` and `FromLoad`.
 */
import { randomUUID } from 'node:crypto'
import { Agent, request } from 'node:http'
import type { FromLoad, ToLoad } from './messages.ts'

/** Argument of the process. */
export interface LoadOptions {
  readonly url: string
  readonly ordersPerSecond: number
  /** Customers, and so keys. */
  readonly keys: number
  /** How long the second half of a body waits. */
  readonly openMs: number
  /** Orders sent at once before a kill. */
  readonly burst: number
}

const options = JSON.parse(process.argv[2] ?? '{}') as LoadOptions
const agent = new Agent({ keepAlive: true, maxSockets: 512 })
const retryMs = 100
const accepted: string[] = []
const refused: string[] = []
let placed = 0
/** Orders that have no 202 yet. */
let waiting = 0
/** Requests on their way to a process that took the connection. */
let open = 0
/** Errors of one kill arrive together; only the first tells. */
let brokenMs = Number.NEGATIVE_INFINITY
let stopping = false

const tell = (message: FromLoad) => process.send?.(message)

function place(waitMs: number): void {
  const number = placed++
  const orderId = randomUUID()
  const body = JSON.stringify({
    orderId,
    customer: `customer-${number % options.keys}`,
    sku: `sku-${number % 21}`,
    quantity: 1,
  })
  waiting += 1
  send(orderId, body, waitMs)
}

/** One attempt; calls itself again until the order is accepted. */
function send(orderId: string, body: string, waitMs: number): void {
  let counted = false
  let ended = false
  const end = (status: number | null, text: string) => {
    if (ended) return
    ended = true
    if (counted) open -= 1
    if (status === 202) {
      accepted.push(orderId)
      waiting -= 1
      return
    }
    if (status !== null) refused.push(`${status} ${text.slice(0, 200)}`)
    setTimeout(() => send(orderId, body, 0), retryMs)
  }
  const call = request(options.url, {
    method: 'POST',
    agent,
    headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
  })
  call.once('socket', (socket) => {
    const count = () => {
      if (ended) return
      counted = true
      open += 1
    }
    if (socket.connecting) socket.once('connect', count)
    else count()
  })
  call.once('response', (response) => {
    let text = ''
    response.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
    // The status was read, so a 202 is a 202 even when the rest of the answer gets lost.
    response.once('close', () => end(response.statusCode ?? null, text))
    response.once('error', () => {})
  })
  call.once('error', () => {
    if (counted && !ended) {
      if (performance.now() - brokenMs > 200) tell({ type: 'broken', open })
      brokenMs = performance.now()
    }
    end(null, '')
  })
  const half = Math.floor(body.length / 2)
  call.write(body.slice(0, half))
  setTimeout(() => call.end(body.slice(half)), waitMs)
}

const timer = setInterval(() => place(options.openMs), 1000 / options.ordersPerSecond)

process.on('message', (message: ToLoad) => {
  switch (message.type) {
    case 'kill':
      for (let i = 0; i < options.burst; i++) place(0)
      // As soon as the burst is on the wire, and before it can all be answered.
      setImmediate(() => setImmediate(() => process.kill(message.pid, 'SIGKILL')))
      break
    case 'stop':
      clearInterval(timer)
      stopping = true
      break
    default:
      message satisfies never
  }
})

const quiet = setInterval(() => {
  if (!stopping || waiting > 0) return
  clearInterval(quiet)
  const last: FromLoad = { type: 'report', report: { placed, accepted, refused } }
  process.send?.(last, () => {
    agent.destroy()
    process.disconnect?.()
  })
}, 50)
