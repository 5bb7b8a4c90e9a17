/** Reads the entries of a zip or jar file: just enough to get message definitions out of a jar. */
import { inflateRawSync } from 'node:zlib'

const endRecord = 0x06054b50
const centralRecord = 0x02014b50

/** The uncompressed content of every entry whose name `wanted` accepts, by name. */
export function readZip(zip: Buffer, wanted: (name: string) => boolean): Map<string, Buffer> {
  let end = zip.length - 22
  while (end >= 0 && zip.readUInt32LE(end) !== endRecord) end--
  if (end < 0) throw new Error('not a zip file: no end of central directory')
  const entries = new Map<string, Buffer>()
  const count = zip.readUInt16LE(end + 10)
  let at = zip.readUInt32LE(end + 16)
  for (let i = 0; i < count; i++) {
    if (zip.readUInt32LE(at) !== centralRecord) throw new Error(`no central directory record at ${at}`)
    const method = zip.readUInt16LE(at + 10)
    const packedBytes = zip.readUInt32LE(at + 20)
    const nameBytes = zip.readUInt16LE(at + 28)
    const local = zip.readUInt32LE(at + 42)
    const name = zip.toString('utf8', at + 46, at + 46 + nameBytes)
    if (wanted(name)) {
      const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28)
      const packed = zip.subarray(start, start + packedBytes)
      entries.set(name, method === 0 ? packed : inflateRawSync(packed))
    }
    at += 46 + nameBytes + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32)
  }
  return entries
}
