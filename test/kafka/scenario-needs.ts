/** Whether this machine has what a scenario needs, told by the environment that the live runner sets. */
import type { DefectScenario, Need } from './defect-scenarios.ts'

const variables: Readonly<Record<Need, string>> = {
  control: 'OTTLA_LIVE_CONTROL',
  secure: 'OTTLA_LIVE_KAFKA_SECURE',
  jars: 'OTTLA_LIVE_JARS',
}

/** False when it can be played here, else why not. */
export function reasonToSkip({ needs }: Pick<DefectScenario, 'needs'>): string | false {
  const wanted = ['OTTLA_LIVE_KAFKA', ...needs.map((need) => variables[need])]
  const missing = wanted.filter((name) => !process.env[name])
  return missing.length === 0 ? false : `not set: ${missing.join(', ')}`
}
