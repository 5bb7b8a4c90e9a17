/**
 * Wiring mistakes told as sentences by the compiler.
 *
 * Most sentences are plain string literals in the place of a parameter's type. Where a string would itself be a legal
 * value, or where the value must exist but never be used, `Mistake` stands instead.
 */
declare const mistake: unique symbol

/** A wiring mistake, told as a sentence. No value has this type, so the compiler shows the sentence. */
export interface Mistake<Sentence extends string> {
  readonly [mistake]: Sentence
}
