/** A program loaded on the device. */

import {
  addressOf,
  type ArgsOf,
  copyBytes,
  newStruct,
  PJRT_ExecuteOptions,
} from "../../../ffi/mod.ts";
import type { Address } from "../../../ffi/mod.ts";
import { formatSpec, sameShape, type TensorSpec } from "../../tensor/mod.ts";
import type { DeviceBuffer, Program, ProgramMemory, ProgramSignature } from "../backend.ts";
import { ownBuffer, PjrtBuffer } from "./buffer.ts";
import type { PjrtClient } from "./client.ts";
import type { Handle } from "./handle.ts";
import { readProgramMemory, readSignature } from "./signature.ts";

/** Owns one `PJRT_LoadedExecutable` and the `PJRT_Executable` it shows. */
export class PjrtProgram implements Program {
  readonly signature: ProgramSignature;
  readonly memory: ProgramMemory | undefined;
  readonly client: PjrtClient;
  readonly loaded: Handle<"PJRT_LoadedExecutable">;
  readonly #executable: Handle<"PJRT_Executable">;

  private constructor(
    client: PjrtClient,
    loaded: Handle<"PJRT_LoadedExecutable">,
    executable: Handle<"PJRT_Executable">,
    signature: ProgramSignature,
    memory: ProgramMemory | undefined,
  ) {
    this.client = client;
    this.loaded = loaded;
    this.#executable = executable;
    this.signature = signature;
    this.memory = memory;
  }

  /** Takes ownership of a loaded executable, and frees it when it turns out to be unusable. */
  static async adopt(
    client: PjrtClient,
    address: Address<"PJRT_LoadedExecutable">,
  ): Promise<PjrtProgram> {
    const { api, handles } = client;
    using owned = new DisposableStack();
    const loaded = owned.use(handles.own("executable", address, (executable) => {
      const args = api.args("PJRT_LoadedExecutable_Destroy").set("executable", executable);
      api.call("PJRT_LoadedExecutable_Destroy", args);
    }));
    const view = api.call(
      "PJRT_LoadedExecutable_GetExecutable",
      api.args("PJRT_LoadedExecutable_GetExecutable").set("loaded_executable", address),
    ).take("executable");
    const executable = owned.use(handles.own("executable", view, (executable) => {
      const args = api.args("PJRT_Executable_Destroy").set("executable", executable);
      api.call("PJRT_Executable_Destroy", args);
    }));
    const signature = await readSignature(api, view);
    const memory = readProgramMemory(api, view);
    const program = new PjrtProgram(client, loaded, executable, signature, memory);
    owned.move();
    return program;
  }

  serialize(): Promise<Uint8Array> {
    return this.client.track(async () => {
      const { api } = this.client;
      const args = api.args("PJRT_Executable_Serialize")
        .set("executable", this.#executable.borrow());
      try {
        await api.callAsync("PJRT_Executable_Serialize", args);
        const bytes = copyBytes(args.get("serialized_bytes"), args.get("serialized_bytes_size"));
        const free = new Deno.UnsafeFnPointer(
          Deno.UnsafePointer.create<typeof DELETER>(args.get("serialized_executable_deleter"))!,
          DELETER,
        );
        free.call(Deno.UnsafePointer.create(args.take("serialized_executable")));
        return bytes;
      } finally {
        this.#executable.release();
      }
    });
  }

  execute(args: readonly DeviceBuffer[]): Promise<DeviceBuffer[]> {
    checkCount(this.signature, args.length);
    const buffers = args.map((argument, index) => {
      const what = `parameter ${index}`;
      checkArgument(this.signature.parameters[index]!, argument, what);
      return ownBuffer(this.client, argument, what);
    });
    return this.client.track(() => this.#execute(buffers));
  }

  async #execute(buffers: readonly PjrtBuffer[]): Promise<DeviceBuffer[]> {
    const { api, handles } = this.client;
    using borrowed = new DisposableStack();
    const borrow = <Name extends string>(handle: Handle<Name>): Address<Name> => {
      const address = handle.borrow();
      borrowed.defer(() => handle.release());
      return address;
    };
    const frame = new ExecuteFrame(this, borrow(this.loaded));
    buffers.forEach((buffer, index) => frame.inputs[index] = borrow(buffer.handle));
    await api.callAsync("PJRT_LoadedExecutable_Execute", frame.args);
    const results = this.signature.results.map((spec, index) =>
      new PjrtBuffer(this.client, spec, frame.outputs[index] as Address<"PJRT_Buffer">)
    );
    handles.count("event", 1);
    try {
      await this.client.settle(frame.done[0] as Address<"PJRT_Event">);
    } catch (error) {
      for (const result of results) result[Symbol.dispose]();
      throw error;
    }
    return results;
  }

  [Symbol.dispose](): void {
    this.#executable[Symbol.dispose]();
    this.loaded[Symbol.dispose]();
  }
}

const DELETER = { parameters: ["pointer"], result: "void" } as const;

/** The memory of one `PJRT_LoadedExecutable_Execute`: one device, arguments in, buffers and event out. */
class ExecuteFrame {
  readonly args: ArgsOf<"PJRT_LoadedExecutable_Execute">;
  readonly inputs: BigUint64Array;
  readonly outputs: BigUint64Array;
  readonly done = new BigUint64Array(1);

  constructor(program: PjrtProgram, executable: Address<"PJRT_LoadedExecutable">) {
    const { parameters, results } = program.signature;
    this.inputs = new BigUint64Array(parameters.length);
    this.outputs = new BigUint64Array(results.length);
    // Weights are arguments too, and a program may mark any argument as reusable for its results: none
    // of ours is.
    const kept = BigInt64Array.from(parameters, (_, index) => BigInt(index));
    const options = newStruct(PJRT_ExecuteOptions)
      .point("non_donatable_input_indices", kept)
      .set("num_non_donatable_input_indices", kept.length);
    this.args = program.client.api.args("PJRT_LoadedExecutable_Execute")
      .set("executable", executable)
      .point("options", options)
      .point("argument_lists", BigUint64Array.of(addressOf(this.inputs)))
      .set("num_devices", 1)
      .set("num_args", parameters.length)
      .point("output_lists", BigUint64Array.of(addressOf(this.outputs)))
      .point("device_complete_events", this.done);
  }
}

/** @throws {TypeError} unless there are as many arguments as parameters */
export function checkCount(signature: ProgramSignature, count: number): void {
  const expected = signature.parameters.length;
  if (count !== expected) {
    throw new TypeError(`the program takes ${expected} arguments, got ${count}`);
  }
}

/** @throws {TypeError} unless an argument has its parameter's type and shape */
export function checkArgument(parameter: TensorSpec, argument: TensorSpec, what: string): void {
  if (parameter.datatype === argument.datatype && sameShape(parameter.shape, argument.shape)) {
    return;
  }
  throw new TypeError(`${what} is ${formatSpec(parameter)}, got ${formatSpec(argument)}`);
}
