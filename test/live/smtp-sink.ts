/** An SMTP server that takes every mail and remembers its headers: what the kill test counts. */

import type { AddressInfo } from 'node:net'
import { createServer, type Server } from 'node:net'

export interface SmtpSink extends AsyncDisposable {
  /** `smtp://127.0.0.1:port`. */
  readonly url: string
  /** Every mail taken, in order, as the text after DATA. */
  readonly mails: readonly string[]
}

/** Starts a sink on a free port. Speaks as much SMTP as a client without TLS and login needs. */
export async function startSmtpSink(): Promise<SmtpSink> {
  const mails: string[] = []
  const sockets = new Set<import('node:net').Socket>()
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    // A client that is killed resets its connection; a mail not finished counts as not sent.
    socket.on('error', () => socket.destroy())
    let data: string[] | null = null
    let rest = ''
    const answer = (line: string) => socket.write(`${line}\r\n`)
    const take = (line: string) => {
      if (data !== null) {
        if (line === '.') {
          mails.push(data.join('\n'))
          data = null
          answer('250 taken')
        } else data.push(line.startsWith('..') ? line.slice(1) : line)
        return
      }
      const verb = line.slice(0, 4).toUpperCase()
      if (verb === 'EHLO' || verb === 'HELO') answer('250 sink')
      else if (verb === 'DATA') {
        data = []
        answer('354 go on')
      } else if (verb === 'QUIT') {
        answer('221 bye')
        socket.end()
      } else answer('250 ok')
    }
    socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\r\n')
      rest = lines.pop() as string
      for (const line of lines) take(line)
    })
    answer('220 sink')
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    url: `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    mails,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
