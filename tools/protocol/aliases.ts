/**
 * Our own names for fields whose official name changed or may change between releases.
 *
 * A field's name is not on the wire, so releases rename freely; users of ours must not notice. Each line maps
 * `Message.OfficialName` to our name, wherever in the message the field stands. `generate.ts` stops when a regenerated
 * table would lose a name that the committed one has: the cure is a line here.
 */
export const aliases: Readonly<Record<string, string>> = {
  'TxnOffsetCommitRequest.GenerationIdOrMemberEpoch': 'generationId',
}
