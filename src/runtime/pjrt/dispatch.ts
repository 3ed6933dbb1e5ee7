/**
 * Runs a program: arguments in, results out, in as few thread hops as the plugin allows. All native memory
 * of a call is laid out once in a frame and reused, because building structs costs more than the calls.
 */

import {
  type Address,
  addressOf,
  allocate,
  type ArgsOf,
  newStruct,
  PJRT_ExecuteOptions,
  PJRT_HostBufferSemantics,
} from "../../../ffi/mod.ts";
import { byteLengthOf } from "../../tensor/mod.ts";
import type { BackendRunOptions, HostTensor, ProgramSignature, RunResult } from "../backend.ts";
import type { PjrtBuffer } from "./buffer.ts";
import type { PjrtClient } from "./client.ts";
import type { Handle } from "./handle.ts";
import { InlinePolicy } from "./inline_policy.ts";
import { PollPolicy } from "./poll_policy.ts";
import { uploadArgs } from "./transfer.ts";

type BufferAddress = Address<"PJRT_Buffer">;
type EventAddress = Address<"PJRT_Event">;

/**
 * Inputs from this size on are not copied before the call returns: the CPU plugin reads them in place
 * where their alignment allows, others copy in the background. Copying less costs no more than finding
 * out later that the plugin has let go of the memory (16 KiB: 1 to 2 microseconds either way).
 */
const BORROW_FROM_BYTES = 16_384;

const COPYING = PJRT_HostBufferSemantics.kImmutableOnlyDuringCall;

/**
 * The CPU plugin admits 32 computations per device and blocks the thread that brings the next one
 * (`max_inflight_computations` of XLA's CPU client): the event loop stays well clear of that.
 */
const MAX_INLINE_IN_FLIGHT = 8;

/**
 * Results from this size on get an event for the end of the execution, so that their download is timed
 * apart from it. Smaller ones take a few microseconds to copy, as long as handling that event would.
 */
const TIME_DOWNLOADS_FROM_BYTES = 65_536;

/** Frames kept for reuse per program: as many as are commonly in flight. */
const MAX_IDLE_FRAMES = 4;

/** Executes one loaded program. Belongs to its `PjrtProgram`, which owns the handle. */
export class Dispatcher {
  readonly #client: PjrtClient;
  readonly #loaded: Handle<"PJRT_LoadedExecutable">;
  readonly #signature: ProgramSignature;
  readonly #policy = new InlinePolicy();
  readonly #polling = new PollPolicy();
  readonly #timesDownloads: boolean;
  readonly #idle: Frame[] = [];

  constructor(
    client: PjrtClient,
    loaded: Handle<"PJRT_LoadedExecutable">,
    signature: ProgramSignature,
  ) {
    this.#client = client;
    this.#loaded = loaded;
    this.#signature = signature;
    const resultBytes = signature.results.reduce((sum, spec) => sum + byteLengthOf(spec), 0);
    this.#timesDownloads = resultBytes >= TIME_DOWNLOADS_FROM_BYTES;
  }

  /** Runs on buffers of the device. The caller takes over the results, which are not counted yet. */
  execute(buffers: readonly PjrtBuffer[]): Promise<BufferAddress[]> {
    return this.#withCall(async (call) => {
      buffers.forEach((buffer, index) => call.frame.inputs[index] = call.borrow(buffer.handle));
      const launch = await this.#execute(call.frame, call.frame.doneAddress);
      const results = Array.from(call.frame.outputs) as BufferAddress[];
      call.awaitLater(call.frame.done[0] as EventAddress);
      this.#learn(launch, call.isFirstReady());
      const failure = await call.settleFirst(this.#polling);
      if (failure === undefined) return results;
      for (const result of results) this.#client.destroyBuffer(result);
      throw failure;
    });
  }

  /** Host tensors first, then device buffers, in; host results out. The caller has checked them all. */
  run(
    inputs: readonly HostTensor[],
    constants: readonly PjrtBuffer[],
    { targets, onExecuted }: BackendRunOptions,
  ): Promise<RunResult> {
    return this.#withCall(async (call) => {
      const { frame } = call;
      const started = performance.now();
      inputs.forEach(({ data }, index) => frame.inputs[index] = call.upload(index, data));
      constants.forEach((buffer, index) =>
        frame.inputs[inputs.length + index] = call.borrow(buffer.handle)
      );
      const uploaded = performance.now();
      const launch = await this.#execute(frame, this.#timesDownloads ? frame.doneAddress : 0n);
      call.adoptResults();
      if (this.#timesDownloads) call.awaitLater(frame.done[0] as EventAddress);
      const outputs = this.#signature.results.map((spec, index) =>
        targets?.[index] ?? allocate(byteLengthOf(spec))
      );
      // Started before the results exist: the plugin copies each as soon as it does.
      outputs.forEach((target, index) => call.download(index, target));
      this.#learn(launch, call.isFirstReady());
      let failure = await call.settleFirst(this.#polling);
      const executed = performance.now();
      if (failure === undefined) onExecuted?.();
      failure ??= await call.settle();
      if (failure !== undefined) throw failure;
      const stages = {
        input: (uploaded - started) / 1000,
        execute: (executed - uploaded) / 1000,
        output: (performance.now() - executed) / 1000,
      };
      return { outputs, stages };
    });
  }

  async #withCall<T>(work: (call: Call) => Promise<T>): Promise<T> {
    const frame = this.#idle.pop() ?? new Frame(this.#client, this.#signature);
    const call = new Call(this.#client, frame);
    this.#client.dispatches++;
    try {
      frame.execute.set("executable", call.borrow(this.#loaded));
      return await work(call);
    } finally {
      this.#client.dispatches--;
      await call.finish();
      if (this.#idle.length < MAX_IDLE_FRAMES) this.#idle.push(frame);
    }
  }

  /** Executions reach the device in the order of these calls, whichever thread makes them. */
  async #execute(frame: Frame, doneAddress: bigint): Promise<Launch> {
    const client = this.#client;
    while (client.launching) await client.launching;
    const args = frame.execute.set("device_complete_events", doneAddress);
    const isInline = this.#policy.isInline && client.dispatches <= MAX_INLINE_IN_FLIGHT;
    const started = performance.now();
    if (isInline) client.api.call("PJRT_LoadedExecutable_Execute", args);
    else {
      const call = client.api.callAsync("PJRT_LoadedExecutable_Execute", args);
      const launching = client.launching = call.then(() => {}, () => {});
      try {
        await call;
      } finally {
        if (client.launching === launching) client.launching = undefined;
      }
    }
    return { isInline, micros: (performance.now() - started) * 1000 };
  }

  #learn({ isInline, micros }: Launch, isDone: boolean): void {
    this.#policy.observe(isInline, micros, isDone);
  }
}

/** How an `Execute` was called, and how long that took. */
interface Launch {
  readonly isInline: boolean;
  readonly micros: number;
}

/** The native memory of one execution, reusable once the call it serves has finished. */
class Frame {
  readonly execute: ArgsOf<"PJRT_LoadedExecutable_Execute">;
  readonly downloads: ReadonlyArray<ArgsOf<"PJRT_Buffer_ToHostBuffer">>;
  readonly inputs: BigUint64Array;
  readonly outputs: BigUint64Array;
  readonly done = new BigUint64Array(1);
  readonly doneAddress: bigint;
  readonly #client: PjrtClient;
  readonly #signature: ProgramSignature;
  readonly #uploads: ArgsOf<"PJRT_Client_BufferFromHostBuffer">[] = [];

  constructor(client: PjrtClient, signature: ProgramSignature) {
    const { parameters, results } = signature;
    this.#client = client;
    this.#signature = signature;
    this.downloads = results.map(() => client.api.args("PJRT_Buffer_ToHostBuffer"));
    this.inputs = new BigUint64Array(parameters.length);
    this.outputs = new BigUint64Array(results.length);
    this.doneAddress = addressOf(this.done);
    // A program may mark any argument as reusable for its results; weights and the caller's buffers
    // are not.
    const kept = BigInt64Array.from(parameters, (_, index) => BigInt(index));
    const options = newStruct(PJRT_ExecuteOptions)
      .point("non_donatable_input_indices", kept)
      .set("num_non_donatable_input_indices", kept.length);
    this.execute = client.api.args("PJRT_LoadedExecutable_Execute")
      .point("options", options)
      .point("argument_lists", BigUint64Array.of(addressOf(this.inputs)))
      .set("num_devices", 1)
      .set("num_args", parameters.length)
      .point("output_lists", BigUint64Array.of(addressOf(this.outputs)));
  }

  /** The upload of parameter `index`; made when first needed, because most parameters are weights. */
  upload(index: number): ArgsOf<"PJRT_Client_BufferFromHostBuffer"> {
    return this.#uploads[index] ??= uploadArgs(this.#client, this.#signature.parameters[index]!);
  }
}

/** One execution: everything it made or borrowed, until `finish` gives it all back. */
class Call {
  readonly frame: Frame;
  readonly #client: PjrtClient;
  readonly #borrowed: Handle<string>[] = [];
  readonly #buffers: BufferAddress[] = [];
  /** Inputs and targets: native code has their addresses, which the collector does not see. */
  #held: Uint8Array[] = [];
  /** Still reading host memory of inputs. */
  readonly #reading: EventAddress[] = [];
  /** Still computing, or writing host memory of results. */
  readonly #writing: EventAddress[] = [];

  constructor(client: PjrtClient, frame: Frame) {
    this.#client = client;
    this.frame = frame;
  }

  borrow<Name extends string>(handle: Handle<Name>): Address<Name> {
    const address = handle.borrow();
    this.#borrowed.push(handle as unknown as Handle<string>);
    return address;
  }

  /** Makes a device buffer of `data`, which must stay as it is until `finish`. */
  upload(index: number, data: Uint8Array): BufferAddress {
    const { api, handles } = this.#client;
    const isBorrowed = data.byteLength >= BORROW_FROM_BYTES;
    const args = this.frame.upload(index).set("data", addressOf(data))
      .set("host_buffer_semantics", isBorrowed ? this.#borrowing() : COPYING);
    api.call("PJRT_Client_BufferFromHostBuffer", args);
    handles.count("buffer", 1);
    handles.count("event", 1);
    const buffer = args.take("buffer");
    const done = args.take("done_with_host_buffer");
    this.#buffers.push(buffer);
    if (isBorrowed) {
      this.#held.push(data);
      this.#reading.push(done);
    } else this.#client.destroyEvent(done);
    return buffer;
  }

  #borrowing(): number {
    return this.#client.platformName === "cpu"
      ? PJRT_HostBufferSemantics.kImmutableZeroCopy
      : PJRT_HostBufferSemantics.kImmutableUntilTransferCompletes;
  }

  /** Frees the results with this call. */
  adoptResults(): void {
    for (const result of this.frame.outputs) {
      this.#buffers.push(result as BufferAddress);
      this.#client.handles.count("buffer", 1);
    }
  }

  /** Starts copying result `index` to `target`, which must not be touched until `settle` returns. */
  download(index: number, target: Uint8Array): void {
    const args = this.frame.downloads[index]!
      .set("src", this.frame.outputs[index] as BufferAddress)
      .set("dst", addressOf(target))
      .set("dst_size", target.byteLength);
    this.#held.push(target);
    this.#client.api.call("PJRT_Buffer_ToHostBuffer", args);
    this.awaitLater(args.take("event"));
  }

  /** Makes `settle` wait for an event, which is freed then. */
  awaitLater(event: EventAddress): void {
    this.#client.handles.count("event", 1);
    this.#writing.push(event);
  }

  /** Whether the event registered first has happened. */
  isFirstReady(): boolean {
    const [event] = this.#writing;
    return event === undefined || this.#client.isReady(event);
  }

  /** Waits for the event registered first. Returns its failure. */
  async settleFirst(polling?: PollPolicy): Promise<unknown> {
    const event = this.#writing.shift();
    if (event === undefined) return undefined;
    try {
      await this.#client.settle(event, polling);
    } catch (error) {
      return error;
    }
  }

  /** Waits for all events, also after one has failed: the others still write. Returns the first failure. */
  async settle(): Promise<unknown> {
    let failure: unknown;
    while (this.#writing.length > 0) {
      const next = await this.settleFirst();
      failure ??= next;
    }
    return failure;
  }

  /** Frees and releases everything, after whatever still uses it. */
  async finish(): Promise<void> {
    await this.settle();
    for (const buffer of this.#buffers) {
      this.#client.handles.count("buffer", -1);
      this.#client.destroyBuffer(buffer);
    }
    for (const event of this.#reading) {
      // A failed input is a failed result, which `settle` has reported.
      await this.#client.settle(event).catch(() => {});
    }
    this.#held = [];
    for (const handle of this.#borrowed) handle.release();
  }
}
