/** SCRAM against the exchange published in RFC 7677, and against servers that cheat. */
import assert from 'node:assert/strict'
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import { describe, test } from 'node:test'
import { OttlaError } from '../../contract/errors.ts'
import { Secret } from '../secret.ts'
import { scram } from './sasl.ts'

const user = { username: 'user', password: new Secret('pencil') }
const clientNonce = 'rOprNGfwEbeRWgbNEkqO'
const serverFirst = 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096'
const bytes = (text: string): Buffer => Buffer.from(text, 'utf8')

async function say(turn: Promise<{ say: Uint8Array } | { done: true }>): Promise<string> {
  const answer = await turn
  assert.ok('say' in answer)
  return Buffer.from(answer.say).toString('utf8')
}

const refuses = (why: RegExp) => (error: unknown) =>
  error instanceof OttlaError && error.code === 'OTTLA_KAFKA_AUTHENTICATION' && why.test(error.message)

describe('SCRAM', () => {
  test('says what RFC 7677 says, and believes the server it describes', async () => {
    const conversation = scram(user, 'sha256', clientNonce)
    assert.equal(await say(conversation.next(null)), 'n,,n=user,r=rOprNGfwEbeRWgbNEkqO')
    assert.equal(
      await say(conversation.next(bytes(serverFirst))),
      'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
    )
    const done = await conversation.next(bytes('v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4='))
    assert.deepEqual(done, { done: true })
  })

  test('SHA-512 proves the password to a server that checks it', async () => {
    const conversation = scram(user, 'sha512', 'abc')
    await conversation.next(null)
    const first = `r=abcdef,s=${bytes('salt').toString('base64')},i=8192`
    const final = await say(conversation.next(bytes(first)))
    const salted = pbkdf2Sync('pencil', 'salt', 8192, 64, 'sha512')
    const hmac = (key: Uint8Array, data: string): Buffer => createHmac('sha512', key).update(data).digest()
    const stored = createHash('sha512').update(hmac(salted, 'Client Key')).digest()
    const authMessage = `n=user,r=abc,${first},c=biws,r=abcdef`
    const proof = Buffer.from(final.slice(final.indexOf('p=') + 2), 'base64')
    const signature = hmac(stored, authMessage)
    const clientKey = Buffer.from(proof.map((b, i) => b ^ (signature[i] as number)))
    assert.deepEqual(createHash('sha512').update(clientKey).digest(), stored)
  })

  test('writes comma and equals in a name so that they end no field', async () => {
    const conversation = scram({ username: 'a,b=c', password: new Secret('x') }, 'sha256', 'n')
    assert.equal(await say(conversation.next(null)), 'n,,n=a=2Cb=3Dc,r=n')
  })

  const cheats: Record<string, [string, RegExp]> = {
    'another nonce': ['r=other,s=c2FsdA==,i=4096', /nonce/],
    'only our own nonce': [`r=${clientNonce},s=c2FsdA==,i=4096`, /nonce/],
    'too few iterations': [`r=${clientNonce}x,s=c2FsdA==,i=4095`, /iterations/],
    'far too many iterations': [`r=${clientNonce}x,s=c2FsdA==,i=999999999`, /iterations/],
    'no number of iterations': [`r=${clientNonce}x,s=c2FsdA==,i=1e9`, /iterations/],
    'no salt': [`r=${clientNonce}x,i=4096`, /salt/],
    'an extension it demands': [`m=ext,r=${clientNonce}x,s=c2FsdA==,i=4096`, /extension/],
    nothing: ['', /nonce/],
  }
  for (const [what, [challenge, why]] of Object.entries(cheats)) {
    test(`a server that offers ${what} gets no proof`, async () => {
      const conversation = scram(user, 'sha256', clientNonce)
      await conversation.next(null)
      await assert.rejects(conversation.next(bytes(challenge)), refuses(why))
    })
  }

  for (const final of ['v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=', 'v=', '', 'e=invalid-proof']) {
    test(`a server that ends with '${final}' is not believed`, async () => {
      const conversation = scram(user, 'sha256', clientNonce)
      await conversation.next(null)
      await conversation.next(bytes(serverFirst))
      await assert.rejects(conversation.next(bytes(final)), refuses(/prove|invalid-proof/))
    })
  }
})
