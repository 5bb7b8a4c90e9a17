/** `ottla store migrate` as a command; what it does is in `store.ts`. */
import type { Command } from 'commander'
import { wholeNumber } from './output.ts'
import { storeMigrate } from './store.ts'

interface MigrateFlags {
  readonly print?: boolean
  readonly from?: number
  readonly databaseUrl?: string
}

export function addStoreCommand(program: Command): void {
  const store = program.command('store').description('look after the tables of ottla in a database')
  const migrate = store
    .command('migrate')
    .description("bring schema ottla to this library's version")
    .configureHelp({ showGlobalOptions: false })
    .option('--print', 'print the SQL instead of running it; needs no database')
    .option(
      '--from <version>',
      'with --print: without the steps up to this version',
      wholeNumber('--from', { min: 0, max: 1e6 }),
    )
    .option('--database-url <url>', 'default: environment DATABASE_URL')
  migrate.action(async () => {
    const { print, from, databaseUrl } = migrate.opts<MigrateFlags>()
    process.exitCode = await storeMigrate(
      {
        ...(print === undefined ? {} : { print }),
        ...(from === undefined ? {} : { from }),
        ...(databaseUrl === undefined ? {} : { url: databaseUrl }),
      },
      (text) => process.stdout.write(`${text}\n`),
    )
  })
}
