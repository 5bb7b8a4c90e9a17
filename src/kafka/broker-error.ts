/** Turns the number a broker answers with into an error of ours, with Kafka's own name beside it. */
import { OttlaError } from '../contract/errors.ts'
import { brokerErrorName, isRetriable } from '../wire/error-codes.ts'

const authorization = new Set([29, 30, 31, 53, 65])

/** `what` says who was asked for what: "Produce to orders-3 at broker 2". `text` is what the broker added in words. */
export function brokerError(code: number, what: string, text?: string | null): OttlaError {
  const name = brokerErrorName(code)
  const retriable = isRetriable(code)
  const kind = authorization.has(code)
    ? 'OTTLA_KAFKA_AUTHORIZATION'
    : code === 58
      ? 'OTTLA_KAFKA_AUTHENTICATION'
      : retriable
        ? 'OTTLA_KAFKA_RETRIABLE'
        : 'OTTLA_KAFKA_BROKER'
  const said = text === undefined || text === null || text === '' ? '' : `: ${text}`
  return new OttlaError(kind, `${what} was answered ${name}${said}`, { kafka: { code, name }, retriable })
}
