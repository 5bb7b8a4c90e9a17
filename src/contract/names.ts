/**
 * Names on the broker. All names of a service begin alike, so that one prefixed ACL per kind of name is enough, and an
 * optional namespace stands in front of all of them.
 */
import { OttlaError } from './errors.ts'

const word = /^[a-z][a-z0-9-]{0,62}$/
const topicName = /^[a-zA-Z0-9._-]{1,249}$/

/** What is wrong with the name of a topic, or null. */
export function topicNameProblem(name: string): string | null {
  if (!topicName.test(name)) return 'a name has 1 to 249 letters, digits, dots, underscores and hyphens'
  if (name === '.' || name === '..') return 'the names . and .. are taken'
  return null
}

/** Checks the name of a service: small letters, digits and hyphens, at most 63, a letter first. Throws OTTLA_CONTRACT_DEFINITION. */
export function checkServiceName(name: string): void {
  if (word.test(name)) return
  throw new OttlaError(
    'OTTLA_CONTRACT_DEFINITION',
    `${JSON.stringify(name)} is no name for a service: small letters, digits and hyphens, at most 63, a letter first`,
  )
}

/** Checks a namespace; the same grammar as a service's name. Throws OTTLA_CONTRACT_DEFINITION. */
export function checkNamespace(name: string): void {
  if (word.test(name)) return
  throw new OttlaError(
    'OTTLA_CONTRACT_DEFINITION',
    `${JSON.stringify(name)} is no namespace: small letters, digits and hyphens, at most 63, a letter first`,
  )
}

/** The names that a service has on the broker. */
export interface ServiceNames {
  /** The consumer group: the service's name. */
  readonly group: string
  /** `dlq.<service>`. */
  readonly deadLetters: string
  /** `ottla.control.<service>`, compacted. */
  readonly control: string
  /** `retry.<service>.<delay>`, the delay as written: `30s`. */
  retry(delay: string): string
  /** `<service>@<instance>`. */
  clientId(instance: string): string
}

/** The names that a service has on the broker. Throws OTTLA_CONTRACT_DEFINITION for a bad name or namespace. */
export function serviceNames(service: string, namespace?: string): ServiceNames {
  checkServiceName(service)
  if (namespace !== undefined) checkNamespace(namespace)
  const front = namespace === undefined ? '' : `${namespace}.`
  return {
    group: `${front}${service}`,
    deadLetters: `${front}dlq.${service}`,
    control: `${front}ottla.control.${service}`,
    retry: (delay) => `${front}retry.${service}.${delay}`,
    clientId: (instance) => `${front}${service}@${instance}`,
  }
}
