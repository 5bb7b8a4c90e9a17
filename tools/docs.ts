/**
 * Writes the reference pages that are made from the source, so that they cannot disagree with it.
 * `node tools/docs.ts` writes them, `node tools/docs.ts --check` exits 1 when one is out of date.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { errorTable } from '../src/contract/errors.ts'

/** `docs/reference/errors.md`, from the error table. */
export function errorsPage(): string {
  const areas = Map.groupBy(Object.entries(errorTable), ([code]) => code.split('_')[1] as string)
  const sections = [...areas].map(([area, rows]) =>
    [
      `## OTTLA_${area}`,
      '',
      '| code | retriable | fatal | what to do |',
      '| --- | --- | --- | --- |',
      ...rows
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(
          ([code, { retriable, fatal, help }]) =>
            `| \`${code}\` | ${retriable ? 'yes' : 'no'} | ${fatal ? 'yes' : 'no'} | ${help.replaceAll('|', '\\|')} |`,
        ),
      '',
    ].join('\n'),
  )
  return [
    '# Errors',
    '',
    'Made by `node tools/docs.ts` from `src/contract/errors.ts`.',
    '',
    'Every error that leaves ottla is an `OttlaError`. Match on `code`, never on the text: codes are never renamed and',
    'never reused. *Retriable*: the same call may succeed later with nothing changed. *Fatal*: the object that threw it',
    'is finished. Where a broker said something, `kafka` holds its code and name; `cause` holds what lay beneath.',
    '`error instanceof OttlaError` also holds when two copies of the package live in one process.',
    '',
    ...sections,
  ].join('\n')
}

/** Every page that is made, by its path in the repository. */
export const pages: ReadonlyMap<string, () => string> = new Map([['docs/reference/errors.md', errorsPage]])

if (import.meta.main) {
  const root = join(import.meta.dirname, '..')
  for (const [path, page] of pages) {
    const file = join(root, path)
    if (!process.argv.includes('--check')) writeFileSync(file, page())
    else if (readFileSync(file, 'utf8') !== page()) {
      console.error(`${path} is out of date: run node tools/docs.ts`)
      process.exitCode = 1
    }
  }
}
