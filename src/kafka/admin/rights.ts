/** What a principal may do with a resource, as brokers tell it: a bit per operation. */

const operations = { read: 3, write: 4, alter: 7, describe: 8, describeConfigs: 10, alterConfigs: 11 } as const

/** The number that means: not told. */
const notTold = -2147483648

/** Asks the bits of an answer; null when the broker did not say. */
export function rights(bits: number | undefined): (operation: keyof typeof operations) => boolean | null {
  return (operation) => (bits === undefined || bits === notTold ? null : (bits & (1 << operations[operation])) !== 0)
}
