/**
 * Splits TypeScript source into what the compiler runs and what it only carries along, without changing positions.
 *
 * `code` is the source with comments and the insides of strings blanked out, so that a search in it meets neither a word in a
 * sentence nor one in a message; code inside `${}` stays. `text` keeps strings and blanks comments only: import
 * specifiers are read there. A small scanner and not a syntax tree: TypeScript 7 offers no tree to scripts, and the
 * checks ask only for words and imports. What it must tell apart, and does, is a regular expression from a division.
 */
export interface MaskedSource {
  readonly code: string
  readonly text: string
}

/** After these words a slash starts a regular expression. */
const beforeRegex = new Set([
  'return',
  'typeof',
  'case',
  'in',
  'of',
  'do',
  'else',
  'void',
  'delete',
  'throw',
  'new',
  'await',
  'yield',
  'default',
])

export function maskSource(source: string): MaskedSource {
  const code = source.split('')
  const text = source.split('')
  const blank = (target: string[], from: number, to: number) => {
    for (let i = from; i < to; i++) if (target[i] !== '\n') target[i] = ' '
  }
  /** Depths of braces at which a template goes on after its `}`. */
  const templates: number[] = []
  let depth = 0
  /** Whether a slash here would divide. */
  let afterValue = false
  let at = source.startsWith('#!') ? lineEnd(source, 0) : 0
  blank(code, 0, at)
  blank(text, 0, at)

  /** Reads template text from `from` to the closing backtick or the next `${`, and returns where code goes on. */
  const templateText = (from: number): number => {
    let i = from
    while (i < source.length) {
      if (source[i] === '\\') i += 2
      else if (source[i] === '`') {
        blank(code, from, i)
        afterValue = true
        return i + 1
      } else if (source[i] === '$' && source[i + 1] === '{') {
        blank(code, from, i)
        templates.push(depth)
        depth += 1
        afterValue = false
        return i + 2
      } else i += 1
    }
    blank(code, from, source.length)
    return source.length
  }

  while (at < source.length) {
    const char = source[at] as string
    const next = source[at + 1]
    if (char === '/' && (next === '/' || next === '*')) {
      const closing = source.indexOf('*/', at + 2)
      const end = next === '/' ? lineEnd(source, at) : closing < 0 ? source.length : closing + 2
      blank(code, at, end)
      blank(text, at, end)
      at = end
    } else if (char === "'" || char === '"') {
      const end = stringEnd(source, at)
      blank(code, at + 1, end - 1)
      afterValue = true
      at = end
    } else if (char === '`') {
      at = templateText(at + 1)
    } else if (char === '/' && !afterValue) {
      const end = regexEnd(source, at)
      blank(code, at + 1, end)
      afterValue = true
      at = end
    } else if (char === '{') {
      depth += 1
      afterValue = false
      at += 1
    } else if (char === '}') {
      depth -= 1
      at += 1
      if (templates.at(-1) === depth) {
        templates.pop()
        at = templateText(at)
      } else afterValue = false
    } else if (/[\w$]/.test(char)) {
      const word = /^[\w$]+/.exec(source.slice(at, at + 200))?.[0] as string
      afterValue = !beforeRegex.has(word)
      at += word.length
    } else {
      if (!/\s/.test(char)) afterValue = char === ')' || char === ']'
      at += 1
    }
  }
  return { code: code.join(''), text: text.join('') }
}

function lineEnd(source: string, from: number): number {
  const end = source.indexOf('\n', from)
  return end < 0 ? source.length : end
}

/** Just after the closing quote, or the end of the line when it is missing. */
function stringEnd(source: string, from: number): number {
  for (let i = from + 1; i < source.length; i++) {
    if (source[i] === '\\') i += 1
    else if (source[i] === source[from]) return i + 1
    else if (source[i] === '\n') return i
  }
  return source.length
}

/** Just after the flags of the expression. */
function regexEnd(source: string, from: number): number {
  let inClass = false
  for (let i = from + 1; i < source.length; i++) {
    const char = source[i]
    if (char === '\n') return i
    if (char === '\\') i += 1
    else if (char === '[') inClass = true
    else if (char === ']') inClass = false
    else if (char === '/' && !inClass) {
      let end = i + 1
      while (/[a-z]/.test(source[end] ?? '')) end += 1
      return end
    }
  }
  return source.length
}

/** An import, a re-export, or an `import('…')` of a value or a type. */
export interface Import {
  readonly specifier: string
  readonly line: number
}

/** Static imports, re-exports, dynamic imports and `import('…')` in types. */
export function importsOf(masked: MaskedSource): Import[] {
  const found: Import[] = []
  const pattern = /(?<![.\w$])(?:(?:import|export)\b[^'"`;]*?\bfrom\s*|import\s*\(?\s*)(['"])([^'"\n]+)\1/g
  for (const match of masked.text.matchAll(pattern)) {
    // The keyword must be code; the same words inside a string are blank there.
    if (masked.code.startsWith('import', match.index) || masked.code.startsWith('export', match.index)) {
      found.push({ specifier: match[2] as string, line: lineAt(masked.text, match.index + match[0].length - 1) })
    }
  }
  return found
}

/** The line, from 1, of a position. */
export function lineAt(text: string, index: number): number {
  let line = 1
  for (let i = text.indexOf('\n'); i >= 0 && i < index; i = text.indexOf('\n', i + 1)) line += 1
  return line
}
