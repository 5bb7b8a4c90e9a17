/**
 * The notification service: one mail per decision. Its store remembers which events it has handled, so a redelivered
 * event sends no second mail; only a crash between the mail and the commit does, with the same Message-ID.
 */
import { service } from 'ottla'
import { postgres } from 'ottla/postgres'
import { Stock } from './contracts.ts'
import type { Mailer } from './mailer.ts'

export const notification = (mailer: Mailer) =>
  service('notification', { store: postgres, emits: [] }).onTopic(Stock, {
    StockReserved: ({ orderId, customer, sku, quantity }, { message }) =>
      mailer.send({
        orderId,
        to: customer,
        subject: `Your order ${orderId}`,
        text: `Thank you. ${quantity} x ${sku} will be on the way to you soon.\n`,
        messageId: messageId(message.id),
      }),
    StockRejected: ({ orderId, customer, sku, quantity, reason }, { message }) =>
      mailer.send({
        orderId,
        to: customer,
        subject: `Sorry, your order ${orderId}`,
        text: `Sorry: we cannot send you ${quantity} x ${sku} (${reason}). Nothing will be charged.\n`,
        messageId: messageId(message.id),
      }),
  })

/** The Message-ID of the mail about an event. */
export const messageId = (eventId: string): string => `<${eventId}@shop.example.com>`
