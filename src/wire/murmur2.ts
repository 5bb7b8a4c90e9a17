/** The hash by which Kafka's own client chooses a partition: murmur2, 32 bits, seed 0x9747b28c. */

const seed = 0x9747b28c | 0
const multiplier = 0x5bd1e995

/** The hash of the first `length` bytes (default all) as a signed 32-bit number, equal to the Java client's. */
export function murmur2(bytes: Uint8Array, length: number = bytes.length): number {
  const whole = length & ~3
  let hash = seed ^ length
  for (let i = 0; i < whole; i += 4) {
    let k = bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24)
    k = Math.imul(k, multiplier)
    k ^= k >>> 24
    hash = Math.imul(hash, multiplier) ^ Math.imul(k, multiplier)
  }
  const rest = length - whole
  if (rest === 3) hash ^= bytes[whole + 2]! << 16
  if (rest >= 2) hash ^= bytes[whole + 1]! << 8
  if (rest >= 1) hash = Math.imul(hash ^ bytes[whole]!, multiplier)
  hash = Math.imul(hash ^ (hash >>> 13), multiplier)
  return hash ^ (hash >>> 15)
}

/** Where keys that are texts become bytes. */
let scratch: Buffer | null = null
const scratchBytes = 1024

/** The partition of a key among `partitions`, equal to the Java client's default. A text counts as UTF-8. */
export function partitionFor(key: Uint8Array | string, partitions: number): number {
  return (hashOf(key) & 0x7fffffff) % partitions
}

function hashOf(key: Uint8Array | string): number {
  if (typeof key !== 'string') return murmur2(key)
  if (key.length * 3 > scratchBytes) return murmur2(Buffer.from(key, 'utf8'))
  scratch ??= Buffer.allocUnsafeSlow(scratchBytes)
  return murmur2(scratch, scratch.write(key, 0, 'utf8'))
}
