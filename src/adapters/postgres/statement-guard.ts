/**
 * Finds statements that would begin or end the transaction, which belongs to ottla.
 *
 * The text is split at semicolons outside of quotes, dollar quotes and comments, and the first words of each statement
 * are looked at. Savepoints are fine. What a function or DO block does inside is the server's business: it refuses to
 * end the transaction there.
 */

const forbidden =
  /^(begin|start\s+transaction|commit|end|abort|prepare\s+transaction|rollback(?!\s+(?:(?:work|transaction)\s+)?to\b))\b/i

/** The words of a statement that ends or begins a transaction, or null when there is none in the text. */
export function transactionCommand(text: string): string | null {
  for (const statement of splitStatements(text)) {
    const match = forbidden.exec(statement)
    if (match) return match[1]!.toLowerCase().replace(/\s+/g, ' ')
  }
  return null
}

/** The statements of an SQL text, comments replaced by a space, quoted parts by `''`. */
export function splitStatements(text: string): readonly string[] {
  const statements: string[] = []
  let current = ''
  let at = 0
  while (at < text.length) {
    const end = skipQuoted(text, at)
    if (end > at) {
      current += text.startsWith('--', at) || text.startsWith('/*', at) ? ' ' : "''"
      at = end
      continue
    }
    const char = text[at]!
    if (char === ';') {
      statements.push(current.trim())
      current = ''
    } else {
      current += char
    }
    at += 1
  }
  statements.push(current.trim())
  return statements.filter((statement) => statement !== '')
}

/** Where the comment or quoted part that starts here ends; `at` itself when none starts here. */
function skipQuoted(text: string, at: number): number {
  const char = text[at]
  if (char === '-' && text[at + 1] === '-') {
    const end = text.indexOf('\n', at)
    return end < 0 ? text.length : end + 1
  }
  if (char === '/' && text[at + 1] === '*') return skipBlockComment(text, at)
  if (char === "'") return skipString(text, at, /(^|[^a-z0-9_$])e$/i.test(text.slice(Math.max(0, at - 2), at)))
  if (char === '"') return skipString(text, at, false)
  if (char === '$' && !/[a-z0-9_$]/i.test(text[at - 1] ?? '')) {
    const tag = /^\$(?:[a-z_\u0080-\uffff][a-z0-9_\u0080-\uffff]*)?\$/i.exec(text.slice(at, at + 130))?.[0]
    if (tag === undefined) return at
    const end = text.indexOf(tag, at + tag.length)
    return end < 0 ? text.length : end + tag.length
  }
  return at
}

function skipString(text: string, at: number, backslashes: boolean): number {
  const quote = text[at]
  for (let i = at + 1; i < text.length; i++) {
    if (backslashes && text[i] === '\\') i += 1
    else if (text[i] === quote) {
      if (text[i + 1] !== quote) return i + 1
      i += 1
    }
  }
  return text.length
}

function skipBlockComment(text: string, at: number): number {
  let depth = 0
  for (let i = at; i < text.length; i++) {
    if (text.startsWith('/*', i)) {
      depth += 1
      i += 1
    } else if (text.startsWith('*/', i)) {
      depth -= 1
      i += 1
      if (depth === 0) return i + 1
    }
  }
  return text.length
}
