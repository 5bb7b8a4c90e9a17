/**
 * Calls the snappy and LZ4 of `@platformatic/wasm-utils`, a WebAssembly module that is handed in as bytes.
 *
 * The package has functions of its own for this; they are not used, for three reasons. Its one instance is shared by
 * everybody in the process. Its Rust panics at damaged input: the trap leaves whatever was allocated behind for good, and
 * the memory of an instance only ever grows. Here a trap, or more memory than `keptBytes`, costs the instance: the next
 * call makes another, which takes a tenth of a millisecond.
 *
 * What an instance may allocate for one call is for the caller to bound before the call.
 */
import { malformed } from './malformed.ts'

/** The functions of the module that are used. */
export type BlockFunction = 'snappy_compress' | 'snappy_decompress' | 'lz4_compress' | 'lz4_decompress'

/** An instance with more memory than this is not kept for the next call. */
const keptBytes = 16 * 1024 * 1024

/** The part of the global that is used; the types of Node leave it to those of browsers. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object) => { readonly exports: unknown }
}

type Exports = Readonly<Record<BlockFunction, (start: number, length: number) => bigint>> & {
  readonly memory: { readonly buffer: ArrayBuffer }
  alloc(length: number): number
  dealloc(start: number, length: number): void
}

export class BlockCompressor {
  readonly #load: () => Uint8Array
  #module: object | null = null
  #instance: Exports | null = null

  /** `load` gives the bytes of the module, and is called when they are first needed. What it throws, `call` throws. */
  constructor(load: () => Uint8Array) {
    this.#load = load
  }

  /** Bytes of memory held by the module. */
  get memoryBytes(): number {
    return this.#instance?.memory.buffer.byteLength ?? 0
  }

  /** The answer of a function of the module, copied out. Throws OTTLA_WIRE_MALFORMED when it trapped. */
  call(name: BlockFunction, input: Uint8Array): Uint8Array {
    const instance = this.#instance ?? this.#instantiate()
    // Should anything go wrong, it is not used again.
    this.#instance = null
    let output: Uint8Array
    try {
      const { length } = input
      const start = instance.alloc(length)
      // Memory may have grown, so its buffer is looked up anew.
      new Uint8Array(instance.memory.buffer, start, length).set(input)
      const answer = instance[name](start, length)
      instance.dealloc(start, length)
      const outputLength = Number(BigInt.asUintN(32, answer))
      const outputStart = Number(BigInt.asUintN(32, answer >> 32n))
      output = new Uint8Array(instance.memory.buffer, outputStart, outputLength).slice()
      instance.dealloc(outputStart, outputLength)
    } catch (cause) {
      throw malformed(`${name} failed: ${(cause as Error).message}`)
    }
    if (instance.memory.buffer.byteLength <= keptBytes) this.#instance = instance
    return output
  }

  #instantiate(): Exports {
    this.#module ??= new WebAssembly.Module(this.#load())
    return new WebAssembly.Instance(this.#module).exports as Exports
  }
}
