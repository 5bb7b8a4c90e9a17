/**
 * CRC-32C (Castagnoli), the checksum of record batches, in a small WebAssembly module of our own.
 *
 * The module is made on first use. Input is copied into its memory in pieces; the copy is part of every figure we
 * quote. Where a native function is at hand, hand it to whoever takes a `Crc32c`.
 */
import { wasm } from './crc32c-wasm.gen.ts'

/** The checksum of `bytes` from `start` (default 0) to `end` (default their length), as an unsigned number. */
export type Crc32c = (bytes: Uint8Array, start?: number, end?: number) => number

/** The polynomial with its bits reversed. */
const polynomial = 0x82f63b78
const tableCount = 16
const tableBytes = tableCount * 1024

/** The part of the global that is used; the types of Node leave it to those of browsers. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object) => { readonly exports: unknown }
}

interface Instance {
  readonly memory: Uint8Array
  readonly capacityBytes: number
  update(crc: number, start: number, end: number): number
}

let instance: Instance | undefined

function instantiate(): Instance {
  const module = new WebAssembly.Module(Uint8Array.from(atob(wasm), (char) => char.charCodeAt(0)))
  const { memory, update } = new WebAssembly.Instance(module).exports as {
    readonly memory: { readonly buffer: ArrayBuffer }
    update(crc: number, start: number, end: number): number
  }
  const tables = new Int32Array(memory.buffer, 0, tableCount * 256)
  for (let i = 0; i < 256; i++) {
    let crc = i
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? polynomial : 0)
    tables[i] = crc
  }
  for (let i = 256; i < tables.length; i++) {
    const before = tables[i - 256]!
    tables[i] = (before >>> 8) ^ tables[before & 0xff]!
  }
  return { memory: new Uint8Array(memory.buffer), capacityBytes: memory.buffer.byteLength - tableBytes, update }
}

/** The built-in one. `before`: the checksum of the bytes that come before these. */
export function crc32c(bytes: Uint8Array, start = 0, end: number = bytes.length, before = 0): number {
  instance ??= instantiate()
  const { memory, capacityBytes } = instance
  let crc = ~before
  for (let at = start; at < end; at += capacityBytes) {
    const piece = Math.min(capacityBytes, end - at)
    memory.set(at === 0 && piece === bytes.length ? bytes : bytes.subarray(at, at + piece), tableBytes)
    crc = instance.update(crc, tableBytes, tableBytes + piece)
  }
  return ~crc >>> 0
}
