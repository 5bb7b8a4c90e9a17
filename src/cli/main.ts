#!/usr/bin/env node
/**
 * The command `ottla`: runs the embedded broker; reads, writes and changes topics and groups of any Kafka and says what is
 * wrong with it; looks after dead letters and the store.
 *
 * Results go to stdout and everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 69 broker
 * or database unreachable, 130 interrupted.
 */
import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import { addBrokerCommand } from './broker.ts'
import { addConnectionOptions } from './connection.ts'
import { addConsumeCommand } from './consume.ts'
import { addDlqCommand } from './dlq.ts'
import { addDoctorCommand } from './doctor.ts'
import { exitDone, report } from './failure.ts'
import { addGroupsCommand } from './groups.ts'
import { endWithReader } from './output.ts'
import { addPauseCommands } from './pause.ts'
import { addProduceCommand } from './produce.ts'
import { addStoreCommand } from './store-command.ts'
import { addTopicsCommand } from './topics.ts'

endWithReader()

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
const program = addConnectionOptions(
  new Command('ottla')
    .description('Event-driven microservices on Apache Kafka')
    .version(manifest.version)
    .option('--verbose', 'show stacks of errors')
    .configureHelp({ showGlobalOptions: true })
    .exitOverride(),
)
addBrokerCommand(program)
addProduceCommand(program)
addConsumeCommand(program)
addTopicsCommand(program)
addGroupsCommand(program)
addDoctorCommand(program)
addDlqCommand(program)
addPauseCommands(program)
addStoreCommand(program)

let exitCode: number = exitDone
try {
  await program.parseAsync()
} catch (error) {
  exitCode = report(error, { verbose: program.opts<{ verbose?: boolean }>().verbose === true })
}
// Nothing is waited for any more; exit codes set by a command itself stand.
process.exitCode = exitCode === exitDone ? (process.exitCode ?? exitDone) : exitCode
