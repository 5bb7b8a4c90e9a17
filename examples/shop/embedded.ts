/**
 * What the shop stands on: Kafka, PostgreSQL and an SMTP server. What the environment names is used
 * (`KAFKA_BOOTSTRAP_SERVERS` with its TLS and SASL names, `DATABASE_URL`, `SMTP_URL`); the rest is brought up here.
 */
import { startBroker } from 'ottla/broker'
import { type ClientOptions, optionsFromEnvironment } from 'ottla/kafka'
import { embeddedPostgres } from 'ottla/testing'
import { type SmtpSink, smtpSink } from './smtp-sink.ts'

export interface Ground extends AsyncDisposable {
  readonly kafka: ClientOptions
  readonly databaseUrl: string
  readonly smtpUrl: string
  /** The mails, when the SMTP server is ours. */
  readonly sink: SmtpSink | null
  /** In words, for the banner. */
  readonly description: string
}

/** Brings up what the environment does not name, all at once. */
export async function ground(environment: NodeJS.ProcessEnv): Promise<Ground> {
  await using stack = new AsyncDisposableStack()
  const givenKafka = optionsFromEnvironment(environment)
  const given = { database: environment['DATABASE_URL'] || null, smtp: environment['SMTP_URL'] || null }
  const own = async <T extends AsyncDisposable>(starting: Promise<T>): Promise<T> => stack.use(await starting)
  const started = await Promise.allSettled([
    givenKafka ?? own(startBroker()).then(({ bootstrapServers }): ClientOptions => ({ bootstrapServers })),
    given.database ?? own(embeddedPostgres()).then(({ url }) => url),
    given.smtp === null ? own(smtpSink()) : null,
  ])
  // Everything has settled, so whatever did start is in the stack and is stopped when one of them failed.
  const failed = started.find((one) => one.status === 'rejected')
  if (failed !== undefined) throw failed.reason
  const [kafka, database, sink] = started.map((one) => (one as PromiseFulfilledResult<unknown>).value) as [
    ClientOptions,
    string,
    SmtpSink | null,
  ]
  const words = [
    `Kafka ${[kafka.bootstrapServers].flat().join(',')}${givenKafka ? '' : ' (embedded)'}`,
    given.database ? 'PostgreSQL of DATABASE_URL' : 'PostgreSQL (embedded)',
    given.smtp ? 'SMTP of SMTP_URL' : `SMTP ${sink?.url} (a sink)`,
  ]
  const kept = stack.move()
  return {
    kafka,
    databaseUrl: database,
    smtpUrl: given.smtp ?? (sink as SmtpSink).url,
    sink,
    description: words.join(', '),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}
