/** An SMTP server that takes every mail and keeps the last ones, for trying the shop out. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { SMTPServer } from 'smtp-server'

/** A mail as it arrived: headers by lower-case name, unfolded. */
export interface ReceivedMail {
  readonly to: readonly string[]
  readonly headers: ReadonlyMap<string, string>
  readonly text: string
}

export interface SmtpSink extends AsyncDisposable {
  readonly url: string
  /** The last mails, oldest first. */
  readonly mails: readonly ReceivedMail[]
}

const keptMails = 1000
const maxMailBytes = 1024 * 1024

/** Starts a sink on a free port of this machine. */
export async function smtpSink(): Promise<SmtpSink> {
  const mails: ReceivedMail[] = []
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    disableReverseLookup: true,
    size: maxMailBytes,
    closeTimeout: 200,
    onData(stream, session, done) {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => {
        // `size` is announced, not enforced: what is beyond it is read and dropped.
        if (!stream.sizeExceeded) chunks.push(chunk)
      })
      stream.once('error', done)
      stream.once('end', () => {
        if (stream.sizeExceeded) return done(Object.assign(new Error('too large'), { responseCode: 552 }))
        mails.push(
          parse(
            Buffer.concat(chunks).toString('utf8'),
            session.envelope.rcptTo.map(({ address }) => address),
          ),
        )
        if (mails.length > keptMails) mails.shift()
        done()
      })
    },
  })
  // A client that hangs up in the middle is not the end of the shop.
  server.on('error', (error) => console.error(`SMTP sink: ${error.message}`))
  server.listen(0, '127.0.0.1')
  await once(server.server, 'listening')
  const { port } = server.server.address() as AddressInfo
  return {
    url: `smtp://127.0.0.1:${port}`,
    mails,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(resolve)),
  }
}

function parse(raw: string, to: readonly string[]): ReceivedMail {
  const end = raw.search(/\r?\n\r?\n/)
  const head = end < 0 ? raw : raw.slice(0, end)
  const lines = head.replace(/\r?\n[ \t]+/g, ' ').split(/\r?\n/)
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const
    }),
  )
  return { to, headers, text: end < 0 ? '' : raw.slice(end).trim() }
}
