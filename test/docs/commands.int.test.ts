/** The commands that README and docs show exist, with the options they are shown with. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { runOk } from '../live/command.ts'

const root = path.resolve(import.meta.dirname, '../..')
const main = path.join(root, 'src/cli/main.ts')
const pages = ['README.md', ...readdirSync(path.join(root, 'docs')).map((name) => `docs/${name}`)].filter((name) =>
  name.endsWith('.md'),
)

/** What pages show, by command: `groups describe` with `--service` … */
function shown(): Map<string, { readonly options: Set<string>; readonly where: string }> {
  const commands = new Map<string, { readonly options: Set<string>; readonly where: string }>()
  for (const page of pages) {
    const text = readFileSync(path.join(root, page), 'utf8')
    for (const [, line] of text.matchAll(/(?:^|`)(?:npm run -s )?ottla (?:-- )?([a-z][^`\n#]*)/gm)) {
      const words = (line as string).trim().split(/\s+/)
      // `dlq list|show|edit` names several at once, `broker|produce|dlq` several nouns.
      const [nouns = '', verbs = ''] = words
      const isVerb = /^[a-z-]+(\|[a-z-]+)*$/.test(verbs) && parents.has(nouns)
      for (const noun of nouns.split('|')) {
        for (const verb of isVerb ? verbs.split('|') : ['']) {
          const name = `${noun} ${verb}`.trim()
          const known = commands.get(name) ?? { options: new Set(), where: page }
          for (const word of words) if (/^--?[a-z]/i.test(word)) known.options.add(word)
          commands.set(name, known)
        }
      }
    }
  }
  return commands
}
const parents = new Set(['topics', 'groups', 'dlq', 'store'])

test('every command and option that a page shows exists', async () => {
  const commands = shown()
  for (const name of ['doctor', 'groups describe', 'groups reset-offsets', 'topics alter', 'dlq redrive']) {
    assert.ok(commands.has(name), `${name} is shown nowhere`)
  }
  const wrong: string[] = []
  const queue = [...commands]
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [name, { options, where }] = next
      // A noun without its verb is talk, not a command line.
      if (parents.has(name)) continue
      const help = await runOk(process.execPath, [main, ...name.split(' '), '--help'])
      if (!help.startsWith(`Usage: ottla ${name}`)) wrong.push(`${where}: there is no ottla ${name}`)
      for (const option of options) {
        if (!new RegExp(`(^|[ ,])${option}([ ,=]|$)`, 'm').test(help))
          wrong.push(`${where}: ottla ${name} has no ${option}`)
      }
    }
  }
  await Promise.all([work(), work()])
  assert.deepEqual(wrong, [])
})
