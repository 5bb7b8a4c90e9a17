import assert from 'node:assert/strict'
import { test } from 'node:test'
import { splitStatements, transactionCommand } from './statement-guard.ts'

test('statements that begin or end a transaction are found, wherever they stand', () => {
  const refused: readonly (readonly [string, string])[] = [
    ['commit', 'commit'],
    ['  COMMIT  ;', 'commit'],
    ['begin', 'begin'],
    ['Start\n Transaction isolation level serializable', 'start transaction'],
    ['end', 'end'],
    ['abort', 'abort'],
    ['rollback', 'rollback'],
    ['rollback work', 'rollback'],
    ["prepare transaction 'x'", 'prepare transaction'],
    ['-- note\ncommit', 'commit'],
    ['/* a /* b */ c */ commit', 'commit'],
    ['select 1; commit', 'commit'],
    ["select ';'; rollback", 'rollback'],
    ["select E'it\\'s'; commit", 'commit'],
    ['select $a$ ; $a$; commit', 'commit'],
    ['select "a;b"; commit', 'commit'],
    ["select 'a''b'; commit", 'commit'],
    ["select 'a\\'; commit", 'commit'],
  ]
  for (const [text, command] of refused) assert.equal(transactionCommand(text), command, text)
})

test('everything else passes, savepoints too', () => {
  const allowed = [
    '',
    'select 1',
    'savepoint commit',
    'rollback to savepoint a',
    'ROLLBACK TO a',
    'rollback work to a',
    'release savepoint a',
    "insert into t values ('; commit')",
    'insert into t values ($$; commit$$)',
    'select $1 -- ; commit',
    'select 1 /* ; commit */',
    'update ends set x = 1',
    'select "commit"',
    'do $x$ begin perform 1; end $x$',
    "select E'\\'; commit --'",
    'prepare s as select 1',
    'update t set a$b = 1',
  ]
  for (const text of allowed) assert.equal(transactionCommand(text), null, text)
})

test('a text is split where the server would', () => {
  assert.deepEqual(splitStatements(`a; b 'x;y' ;; c "d;" $t$;$t$ -- e;\n`), ['a', "b ''", "c '' ''"])
})

test('an unclosed quote or comment hides the rest, as it does for the server', () => {
  for (const text of ["select '; commit", 'select "; commit', 'select /* ; commit', 'select $q$; commit']) {
    assert.equal(transactionCommand(text), null, text)
  }
})
