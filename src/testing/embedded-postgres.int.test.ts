import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import pg from 'pg'
import { eventually } from './conformance/fake-log.ts'
import { embeddedPostgres } from './embedded-postgres.ts'

const ask = async (url: string, text: string): Promise<any> => {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(text)).rows[0]
  } finally {
    await client.end()
  }
}

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ESRCH')
    return false
  }
}

const own = { url: '' }

describe('embedded PostgreSQL', { timeout: 60_000 }, () => {
  test('starts, makes databases, and leaves neither process nor folder', async () => {
    let folder: string
    let pid: number
    {
      await using server = await embeddedPostgres(own)
      pid = server.pid!
      folder = path.dirname((await ask(server.url, 'show data_directory')).data_directory)
      const urls = await Promise.all([server.createDatabase(), server.createDatabase()])
      assert.notEqual(urls[0], urls[1])
      await ask(urls[0]!, 'create table only_here ()')
      assert.equal((await ask(urls[1]!, `select to_regclass('only_here') as there`)).there, null)
      assert.equal((await ask(server.url, 'show fsync')).fsync, 'off')
      assert.equal((await ask(server.url, 'show synchronous_commit')).synchronous_commit, 'on')
      assert.ok(existsSync(folder))
    }
    assert.equal(existsSync(folder), false)
    assert.equal(alive(pid), false)
  })

  test('durable writes to disk, and wrong passwords are refused', async () => {
    await using server = await embeddedPostgres({ ...own, durable: true, settings: { work_mem: '5MB' } })
    assert.equal((await ask(server.url, 'show fsync')).fsync, 'on')
    assert.equal((await ask(server.url, 'show work_mem')).work_mem, '5MB')
    const wrong = new URL(server.url)
    wrong.password = 'wrong'
    await assert.rejects(ask(wrong.href, 'select 1'), { code: '28P01' })
  })

  test('a given server wins, and its databases are dropped at the end', async () => {
    await using server = await embeddedPostgres(own)
    let name: string
    {
      await using given = await embeddedPostgres({ url: server.url })
      assert.deepEqual([given.embedded, given.pid, given.url], [false, null, server.url])
      const url = await given.createDatabase()
      name = new URL(url).pathname.slice(1)
      assert.equal((await ask(url, 'select current_database() as name')).name, name)
    }
    assert.equal((await ask(server.url, `select count(*)::int as n from pg_database where datname = '${name}'`)).n, 0)
  })

  for (const way of ['exit', 'SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
    test(`the server goes when its process ends by ${way}`, async () => {
      const module = pathToFileURL(path.join(import.meta.dirname, 'embedded-postgres.ts')).href
      const script = `
        import { embeddedPostgres } from ${JSON.stringify(module)}
        const server = await embeddedPostgres({ url: '' })
        console.log(server.pid)
        ${way === 'exit' ? 'process.exit(0)' : 'setInterval(() => {}, 1000)'}`
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const gone = new Promise((resolve) => child.once('exit', resolve))
      let output = ''
      child.stdout.on('data', (chunk) => {
        output += chunk
      })
      await eventually(() => output.endsWith('\n'))
      const pid = Number(output)
      assert.ok(pid > 0)
      if (way !== 'exit') child.kill(way)
      await gone
      await eventually(() => !alive(pid))
    })
  }
})
