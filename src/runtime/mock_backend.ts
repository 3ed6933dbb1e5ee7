/**
 * A backend without a device, for tests of what stands on one: programs are JavaScript functions, and a
 * test can make any call fail or wait.
 */

import { UnavailableError } from "../errors.ts";
import type { Datatype, TensorSpec } from "../tensor/mod.ts";
import { checkArguments, checkByteLength, checkHostTensors } from "./arguments.ts";
import type {
  Backend,
  BackendRunOptions,
  DeviceBuffer,
  DeviceMemory,
  HostTensor,
  Program,
  ProgramMemory,
  ProgramSignature,
  RunResult,
} from "./backend.ts";

/** What `compile` finds behind a name. */
export interface MockDefinition extends ProgramSignature {
  readonly memory?: ProgramMemory;
  /** Bytes of all parameters to bytes of all results. May throw, may wait. */
  readonly compute: (args: readonly Uint8Array[]) => Uint8Array[] | Promise<Uint8Array[]>;
}

/**
 * Calls a test can make fail or wait. `run` counts as one `execute`; where transfers overlap, the copies of
 * its results to the host are a `download`, after it has said that it has executed.
 */
export type MockCall = "compile" | "deserialize" | "upload" | "execute" | "download";

export interface MockBackendOptions {
  /** Programs by name; the name is what `compile` gets as code. */
  readonly programs: Readonly<Record<string, MockDefinition>>;
  readonly platform?: string;
  readonly deviceKind?: string;
  /** Default `mock`. */
  readonly fingerprint?: string;
  readonly memory?: () => DeviceMemory | undefined;
  /** Default false. */
  readonly overlapsTransfers?: boolean;
}

/** A closed gate: calls that meet it wait until it opens. */
export interface Gate {
  /** Settles when a call waits at the gate. */
  readonly reached: Promise<void>;
  /** Lets everyone through, now and later. */
  open(): void;
}

const decoder = new TextDecoder();
const encoder = new TextEncoder();

export class MockBackend implements Backend {
  readonly platform: string;
  readonly deviceKind: string;
  readonly fingerprint: string;
  readonly overlapsTransfers: boolean;
  /** How often each call was made. */
  readonly calls: Record<MockCall, number> = {
    compile: 0,
    deserialize: 0,
    upload: 0,
    execute: 0,
    download: 0,
  };
  readonly #options: MockBackendOptions;
  readonly #live: Record<"buffer" | "executable", number> = { buffer: 0, executable: 0 };
  readonly #failures = new Map<MockCall, Error[]>();
  readonly #gates = new Map<MockCall, { passed: Promise<void>; arrive: () => void }>();
  #isClosed = false;

  constructor(options: MockBackendOptions) {
    this.#options = options;
    this.platform = options.platform ?? "cpu";
    this.deviceKind = options.deviceKind ?? "mock";
    this.fingerprint = options.fingerprint ?? "mock";
    this.overlapsTransfers = options.overlapsTransfers ?? false;
  }

  /** The next such call fails with `error`; several queue up. */
  failNext(call: MockCall, error: Error): void {
    this.#failures.set(call, [...this.#failures.get(call) ?? [], error]);
  }

  /** From now on such calls wait, until the gate is opened. */
  gate(call: MockCall): Gate {
    const reached = Promise.withResolvers<void>();
    const passed = Promise.withResolvers<void>();
    this.#gates.set(call, { passed: passed.promise, arrive: reached.resolve });
    return {
      reached: reached.promise,
      open: () => {
        this.#gates.delete(call);
        passed.resolve();
      },
    };
  }

  async compile(code: Uint8Array): Promise<Program> {
    await this.#enter("compile");
    return this.#load(decoder.decode(code));
  }

  async deserialize(serialized: Uint8Array): Promise<Program> {
    await this.#enter("deserialize");
    return this.#load(decoder.decode(serialized));
  }

  async upload(spec: TensorSpec, data: Uint8Array): Promise<DeviceBuffer> {
    checkByteLength(spec, data, "tensor");
    await this.#enter("upload");
    return new MockBuffer(this, spec, data.slice(), this.#hold("buffer"));
  }

  async download(buffer: DeviceBuffer, target?: Uint8Array): Promise<Uint8Array> {
    const data = contentsOf(this, buffer, "the buffer to download");
    if (target !== undefined) checkByteLength(buffer, target, "buffer");
    await this.#enter("download");
    if (target === undefined) return data.slice();
    target.set(data);
    return target;
  }

  async run(
    program: Program,
    inputs: readonly HostTensor[],
    constants: readonly DeviceBuffer[],
    { targets, onExecuted }: BackendRunOptions = {},
  ): Promise<RunResult> {
    if (!(program instanceof MockProgram) || program.backend !== this) {
      throw new TypeError("the program is not one of this device");
    }
    checkArguments(program.signature, [...inputs, ...constants]);
    checkHostTensors(program.signature, inputs, targets);
    const args = [
      ...inputs.map(({ data }) => data),
      ...constants.map((constant, index) =>
        contentsOf(this, constant, `parameter ${inputs.length + index}`)
      ),
    ];
    const started = performance.now();
    const results = await this.compute(program, args);
    const execute = (performance.now() - started) / 1000;
    if (this.overlapsTransfers) {
      onExecuted?.();
      // Part of what was let in: a backend that closes meanwhile lets it finish.
      await this.#pass("download");
    }
    const outputs = results.map((result, index) => {
      const target = targets?.[index];
      target?.set(result);
      return target ?? result;
    });
    return { outputs, stages: { input: 0, execute, output: 0 } };
  }

  memory(): DeviceMemory | undefined {
    return this.#options.memory?.();
  }

  liveHandles(): Readonly<Record<string, number>> {
    return { ...this.#live };
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    return Promise.resolve();
  }

  /** `Program.execute`, and the middle of `run`. */
  async compute(program: MockProgram, args: readonly Uint8Array[]): Promise<Uint8Array[]> {
    program.checkLive();
    await this.#enter("execute");
    return await program.definition.compute(args);
  }

  /** Makes the buffers of `Program.execute`'s results. */
  own(spec: TensorSpec, data: Uint8Array): DeviceBuffer {
    return new MockBuffer(this, spec, data, this.#hold("buffer"));
  }

  async #enter(call: MockCall): Promise<void> {
    if (this.#isClosed) throw new UnavailableError("the device client is shutting down");
    await this.#pass(call);
  }

  async #pass(call: MockCall): Promise<void> {
    this.calls[call]++;
    const gate = this.#gates.get(call);
    gate?.arrive();
    await gate?.passed;
    const failure = this.#failures.get(call)?.shift();
    if (failure !== undefined) throw failure;
  }

  #load(name: string): Program {
    const definition = this.#options.programs[name];
    if (definition === undefined) throw new Error(`no mock program ${JSON.stringify(name)}`);
    return new MockProgram(this, name, definition, this.#hold("executable"));
  }

  #hold(kind: "buffer" | "executable"): () => void {
    this.#live[kind]++;
    let isHeld = true;
    return () => {
      if (isHeld) this.#live[kind]--;
      isHeld = false;
    };
  }
}

class MockProgram implements Program {
  readonly backend: MockBackend;
  readonly definition: MockDefinition;
  readonly signature: ProgramSignature;
  readonly memory: ProgramMemory | undefined;
  readonly #name: string;
  readonly #drop: () => void;
  #isDisposed = false;

  constructor(backend: MockBackend, name: string, definition: MockDefinition, drop: () => void) {
    this.backend = backend;
    this.definition = definition;
    this.signature = { parameters: definition.parameters, results: definition.results };
    this.memory = definition.memory;
    this.#name = name;
    this.#drop = drop;
  }

  checkLive(): void {
    if (this.#isDisposed) throw new TypeError("this executable has been disposed");
  }

  serialize(): Promise<Uint8Array> {
    return Promise.resolve(encoder.encode(this.#name));
  }

  async execute(args: readonly DeviceBuffer[]): Promise<DeviceBuffer[]> {
    checkArguments(this.signature, args);
    const contents = args.map((argument, index) =>
      contentsOf(this.backend, argument, `parameter ${index}`)
    );
    const results = await this.backend.compute(this, contents);
    return this.signature.results.map((spec, index) => this.backend.own(spec, results[index]!));
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    this.#drop();
  }
}

class MockBuffer implements DeviceBuffer {
  readonly backend: MockBackend;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly #data: Uint8Array;
  readonly #drop: () => void;
  #isDisposed = false;

  constructor(backend: MockBackend, spec: TensorSpec, data: Uint8Array, drop: () => void) {
    this.backend = backend;
    this.datatype = spec.datatype;
    this.shape = spec.shape;
    this.byteLength = data.length;
    this.#data = data;
    this.#drop = drop;
  }

  get data(): Uint8Array {
    if (this.#isDisposed) throw new TypeError("this buffer has been disposed");
    return this.#data;
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    this.#drop();
  }
}

function contentsOf(backend: MockBackend, buffer: DeviceBuffer, what: string): Uint8Array {
  if (buffer instanceof MockBuffer && buffer.backend === backend) return buffer.data;
  throw new TypeError(`${what} is not a buffer of this device`);
}
