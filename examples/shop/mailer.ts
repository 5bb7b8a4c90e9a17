/** Sends mails over SMTP and says so on a channel, so that the printed steps end with the mail. */
import { channel } from 'node:diagnostics_channel'
import { createTransport } from 'nodemailer'

/** A mail was accepted by the SMTP server. Message: `Mailed`. */
export const mailed = channel('shop:mail.sent')

/** Message of `mailed`. */
export interface Mailed {
  readonly orderId: string
  readonly to: string
  readonly subject: string
  readonly messageId: string
}

export interface Mail {
  readonly orderId: string
  readonly to: string
  readonly subject: string
  readonly text: string
  /** Taken from the event's id: a mail that is sent twice is recognised as one by whoever receives it. */
  readonly messageId: string
}

export interface Mailer extends Disposable {
  /** Resolves when the server has accepted the mail. */
  send(mail: Mail): Promise<void>
}

/** A mailer for `smtp://user:password@host:port` or `smtps://…`. */
export function mailer(smtpUrl: string): Mailer {
  const transport = createTransport(
    {
      url: smtpUrl,
      pool: true,
      maxConnections: 4,
      connectionTimeout: 5000,
      greetingTimeout: 5000,
      socketTimeout: 10_000,
    },
    { from: 'shop@example.com' },
  )
  return {
    async send({ orderId, to, subject, text, messageId }) {
      await transport.sendMail({ to, subject, text, messageId })
      mailed.publish({ orderId, to, subject, messageId } satisfies Mailed)
    },
    [Symbol.dispose]: () => transport.close(),
  }
}
