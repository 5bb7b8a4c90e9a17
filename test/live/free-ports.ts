/**
 * TCP ports for servers that must know their port before they start, and find it free again after a restart.
 *
 * They are taken from below Linux's ephemeral range, so that an outgoing connection of some test cannot sit on a port
 * while its server is down.
 */
import { createServer } from 'node:net'

const lowest = 20_000
const highest = 32_000
const given = new Set<number>()

/** `count` ports of 127.0.0.1 on which nothing listens, never the same twice in one process. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = []
  while (ports.length < count) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest))
    if (given.has(port) || !(await isFree(port))) continue
    given.add(port)
    ports.push(port)
  }
  return ports
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)))
  })
}
