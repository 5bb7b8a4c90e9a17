/**
 * A PostgreSQL of the machine (Debian's, or any under /usr/lib/postgresql) in a temporary folder, for tests.
 *
 * PostgreSQL refuses to run as root: as root it is started as the user `postgres`, who comes with Debian's package.
 */
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { findProgram, run, runOk } from './command.ts'
import { freePorts } from './free-ports.ts'

/** A running server; disposing stops it and removes its data. */
export interface TestPostgres extends AsyncDisposable {
  /** Connection URL of the database `postgres`, as a superuser without password. */
  readonly url: string
  readonly version: string
}

/** What of PostgreSQL this machine lacks, in words, or null when a server can be started. */
export function missingForPostgres(): string | null {
  if (binaries() === null) return 'no PostgreSQL under /usr/lib/postgresql and none on PATH (Debian: postgresql)'
  if (isRoot() && userId('postgres') === null) return 'running as root and there is no user `postgres` to start it as'
  return null
}

/** Initialises and starts a server on a free port of 127.0.0.1: about 2 s. Throws when it cannot. */
export async function startPostgres(): Promise<TestPostgres> {
  const bin = binaries()
  if (bin === null) throw new Error('no PostgreSQL on this machine')
  const folder = mkdtempSync(path.join(tmpdir(), 'ottla-postgres-'))
  const data = path.join(folder, 'data')
  const asOwner = (program: string, args: readonly string[]): [string, readonly string[]] => {
    const file = path.join(bin, program)
    return isRoot() ? ['runuser', ['-u', 'postgres', '--', file, ...args]] : [file, args]
  }
  const stopArgs = asOwner('pg_ctl', ['-D', data, '-m', 'immediate', 'stop'])
  try {
    if (isRoot()) {
      const owner = userId('postgres')
      if (owner === null) throw new Error('there is no user `postgres`')
      chownSync(folder, owner, -1)
    }
    chmodSync(folder, 0o755)
    const [port = 0] = await freePorts(1)
    const init = ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '--no-locale', '-E', 'UTF8']
    await runOk(...asOwner('initdb', init), { cwd: folder })
    const settings = [
      `-p ${port} -k ${folder} -c listen_addresses=127.0.0.1`,
      // No safety against a power cut; synchronous_commit stays on, logical decoding needs it.
      '-c fsync=off -c full_page_writes=off -c shared_buffers=32MB -c max_connections=200',
      '-c wal_level=logical -c max_replication_slots=10 -c max_wal_senders=10',
    ].join(' ')
    // pg_ctl hands its own output to the server, which would keep the pipe open: everything goes into the log.
    const start = ['-D', data, '-w', '-l', path.join(folder, 'server.log'), '-o', settings, 'start']
    const [program, args] = asOwner('pg_ctl', start)
    await runOk('/bin/sh', ['-c', `exec "$0" "$@" >"${folder}/start.log" 2>&1`, program, ...args], { cwd: folder })
    const version = (await runOk(path.join(bin, 'postgres'), ['--version'])).trim()
    return {
      url: `postgres://postgres@127.0.0.1:${port}/postgres`,
      version,
      async [Symbol.asyncDispose]() {
        await run(...stopArgs, { cwd: folder })
        rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
      },
    }
  } catch (error) {
    if (existsSync(data)) await run(...stopArgs, { cwd: folder })
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
    throw error
  }
}

/** The folder of initdb and pg_ctl: the newest of Debian's, else the one on PATH. */
function binaries(): string | null {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  for (const version of versions) {
    const bin = path.join(debian, version, 'bin')
    if (existsSync(path.join(bin, 'initdb')) && existsSync(path.join(bin, 'pg_ctl'))) return bin
  }
  const onPath = findProgram('initdb')
  return onPath === null ? null : path.dirname(onPath)
}

const isRoot = () => process.getuid?.() === 0

function userId(name: string): number | null {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`))
  const id = Number(line?.split(':')[2])
  return line === undefined || !Number.isInteger(id) ? null : id
}
