/** The one error for bytes that are no valid frame. */
import { OttlaError } from '../contract/errors.ts'

/** Makes OTTLA_WIRE_MALFORMED. `what` says what was expected; never holds payload. */
export function malformed(what: string): OttlaError {
  return new OttlaError('OTTLA_WIRE_MALFORMED', what)
}
