/** What commands print: the result on stdout, everything else on stderr, and no complaint when the reader has gone. */
import { once } from 'node:events'
import type { Command } from 'commander'

export type OutputFormat = 'text' | 'json'

/** The flags of a command that has no others than `addOutputOption` gives it. */
export interface OutputFlags {
  readonly output: OutputFormat
}

/** `ottla consume … | head -1` closes the pipe after a line: that is an end and no error. Call once at the start. */
export function endWithReader(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0)
      throw error
    })
  }
}

/** Prints a line of the result; resolves when a slow reader has room again. */
export async function printLine(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain')
}

/** Prints a document or one line of a stream of them. */
export function printJson(value: unknown): Promise<void> {
  return printLine(JSON.stringify(value))
}

/** Text that others wrote, such that it cannot steer the terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '\uFFFD')
}

/** Says something that is not the result. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** Adds `-o json`. */
export function addOutputOption(command: Command): Command {
  return command.option(
    '-o, --output <format>',
    'text or json',
    (value: string): OutputFormat => {
      if (value !== 'text' && value !== 'json') throw new UsageError(`-o knows text and json, not '${value}'`)
      return value
    },
    'text',
  )
}

/** Lines in columns, the first row as heading; the last column takes what it needs. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  )
}

/** The command was called in a way that cannot be meant: exit code 2. */
export class UsageError extends Error {}

/** What was asked for does not exist: exit code 3. */
export class NotFoundError extends Error {}

/** A whole number option. Throws UsageError. */
export function wholeNumber(name: string, bounds: { min: number; max: number }): (value: string) => number {
  return (value) => {
    const number = Number(value)
    if (!/^\d+$/.test(value) || number < bounds.min || number > bounds.max) {
      throw new UsageError(`${name} is a whole number from ${bounds.min} to ${bounds.max}, not '${value}'`)
    }
    return number
  }
}
