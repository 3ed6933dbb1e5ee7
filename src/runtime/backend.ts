/**
 * What the worker needs of a device runtime. `src/runtime/pjrt` is the real one; `mock_backend.ts`
 * stands in where a test needs failures or timing on demand.
 *
 * Ownership: whoever receives a `DeviceBuffer` or a `Program` disposes it, once; a second dispose is
 * harmless, use afterwards throws. Disposing a program or buffer that a call in progress still uses is
 * safe: the handle is freed when that call settles.
 */

import type { Datatype, TensorSpec } from "../tensor/mod.ts";

/** Types and shapes a compiled program really takes and gives, in order, in wire order. */
export interface ProgramSignature {
  readonly parameters: readonly TensorSpec[];
  readonly results: readonly TensorSpec[];
}

/** Device memory a program needs, in bytes, as its compiler reports it. */
export interface ProgramMemory {
  readonly generatedCodeBytes: number;
  readonly argumentBytes: number;
  readonly outputBytes: number;
  readonly temporaryBytes: number;
}

export interface CompileSettings {
  /** `xla_gpu_autotune_level`; `undefined` keeps XLA's default. */
  readonly autotuneLevel?: number;
  /** Further `xla_*` debug options by field name, for `env_option_overrides`. */
  readonly overrides?: Readonly<Record<string, string | number | boolean>>;
}

/** A tensor in device memory. */
export interface DeviceBuffer extends Disposable {
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  /** Bytes of the tensor as the host sees it. */
  readonly byteLength: number;
}

/** A program loaded on the device. */
export interface Program extends Disposable {
  readonly signature: ProgramSignature;
  readonly memory: ProgramMemory | undefined;
  /** The compiled form, for the executable cache; loads again only on the same plugin and device kind. */
  serialize(): Promise<Uint8Array>;
  /**
   * Runs once. `args` are all parameters in order and stay owned by the caller; the results belong to
   * the caller too. Count, types and shapes are checked against the signature before the device sees
   * them: a mismatch throws `TypeError` naming the parameter.
   */
  execute(args: readonly DeviceBuffer[]): Promise<DeviceBuffer[]>;
}

export interface DeviceMemory {
  readonly inUseBytes: number;
  readonly limitBytes: number | undefined;
  readonly peakInUseBytes: number | undefined;
  readonly poolBytes: number | undefined;
}

/** A tensor in host memory, as a dispatch takes it; any name it has is ignored. */
export interface HostTensor extends TensorSpec {
  readonly data: Uint8Array;
}

/** What one dispatch spent in each stage. */
export interface StageSeconds {
  /** Host to device. */
  readonly input: number;
  readonly execute: number;
  /** Device to host. */
  readonly output: number;
}

/** What goes with a `run`. */
export interface BackendRunOptions {
  /** Where results go, where given (each exactly its length); the others go into new arrays. */
  readonly targets?: readonly (Uint8Array | undefined)[] | undefined;
  /**
   * Told that the program has been executed, and that another one may be; results may still be copied to
   * the host then. Not told where they come together. Never told of what has failed.
   */
  readonly onExecuted?: (() => void) | undefined;
}

/** What one dispatch gave. */
export interface RunResult {
  /** The bytes of each result, in program order; they belong to the caller. */
  readonly outputs: readonly Uint8Array[];
  readonly stages: StageSeconds;
}

/** A device buffer of host memory that was not copied. */
export interface AdoptedBuffer {
  readonly buffer: DeviceBuffer;
  /** Disposes the buffer; settles when the device does not use the memory any more. */
  release(): Promise<void>;
}

/** One client on one device. */
export interface Backend extends AsyncDisposable {
  /** `cpu` or `cuda`: what is really in use. */
  readonly platform: string;
  /** For example `cpu` or `NVIDIA H200`. */
  readonly deviceKind: string;
  /** Changes whenever serialized programs stop being interchangeable: plugin build, API, platform. */
  readonly fingerprint: string;
  /**
   * Whether an `upload`, and the copies to the host at the end of a `run`, are done beside the execution
   * of another. Executions follow each other in the order of the calls, with or without.
   */
  readonly overlapsTransfers: boolean;
  /**
   * Compiles StableHLO (a portable artifact or MLIR text) for the device, off the event loop.
   * @throws {PjrtError} with the compiler's own message
   */
  compile(code: Uint8Array, settings?: CompileSettings): Promise<Program>;
  /** Loads what `serialize` gave. The bytes must be known good: damaged ones can abort the process. */
  deserialize(serialized: Uint8Array): Promise<Program>;
  /**
   * Copies a tensor to the device. `data` may be reused when the promise settles.
   * @throws {TypeError} when `data` is not exactly the bytes of `spec`
   */
  upload(spec: TensorSpec, data: Uint8Array): Promise<DeviceBuffer>;
  /**
   * Makes a device buffer of host memory without copying it; absent where the device has memory of its
   * own. `data` begins on a multiple of 64 bytes, and stays as it is until the buffer is released.
   * @throws {TypeError} when `data` is not exactly the bytes of `spec`
   */
  adopt?(spec: TensorSpec, data: Uint8Array): AdoptedBuffer;
  /** Copies a tensor to the host: into `target` when given (exactly its length), else a new array. */
  download(buffer: DeviceBuffer, target?: Uint8Array): Promise<Uint8Array>;
  /**
   * One whole dispatch, host to device to execute to host, in as few thread hops as the device allows.
   * `inputs` are the leading parameters, `constants` (what is on the device already: weights, or all of
   * them) the rest. The device may read inputs in place: neither they nor targets may be changed,
   * transferred or reused until the promise settles.
   * @throws {TypeError} naming the parameter whose type, shape or byte length is not the program's
   */
  run(
    program: Program,
    inputs: readonly HostTensor[],
    constants: readonly DeviceBuffer[],
    options?: BackendRunOptions,
  ): Promise<RunResult>;
  /** The allocator's view, or `undefined` when the device keeps none (CPU). */
  memory(): DeviceMemory | undefined;
  /** Native handles alive now, by kind (`buffer`, `executable`, `event`, …): a leak shows here. */
  liveHandles(): Readonly<Record<string, number>>;
}
