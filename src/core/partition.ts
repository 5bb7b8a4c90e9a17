/**
 * Which partition a key belongs to when the contract declares fewer partitions than the broker has: the declared count
 * decides, so that a grown topic does not tear keys apart. The hash is Kafka's murmur2, equal to Java's client, which
 * the transport uses for every other record. Tests compare the two.
 */

const multiplier = 0x5bd1e995
const seed = 0x9747b28c

/** murmur2 of a key mod the declared partitions. */
export function declaredPartition(key: Uint8Array, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions
}

function murmur2(bytes: Uint8Array): number {
  const { length } = bytes
  let hash = seed ^ length
  const whole = length & ~3
  for (let index = 0; index < whole; index += 4) {
    let word = bytes[index]! | (bytes[index + 1]! << 8) | (bytes[index + 2]! << 16) | (bytes[index + 3]! << 24)
    word = Math.imul(word, multiplier)
    word ^= word >>> 24
    hash = Math.imul(hash, multiplier) ^ Math.imul(word, multiplier)
  }
  const rest = length - whole
  if (rest > 0) {
    if (rest === 3) hash ^= bytes[whole + 2]! << 16
    if (rest >= 2) hash ^= bytes[whole + 1]! << 8
    hash = Math.imul(hash ^ bytes[whole]!, multiplier)
  }
  hash ^= hash >>> 13
  hash = Math.imul(hash, multiplier)
  return hash ^ (hash >>> 15)
}
