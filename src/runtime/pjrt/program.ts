/** A program loaded on the device. */

import { type Address, copyBytes } from "../../../ffi/mod.ts";
import { checkArguments, checkHostTensors } from "../arguments.ts";
import type {
  BackendRunOptions,
  DeviceBuffer,
  HostTensor,
  Program,
  ProgramMemory,
  ProgramSignature,
  RunResult,
} from "../backend.ts";
import { ownBuffer, PjrtBuffer } from "./buffer.ts";
import type { PjrtClient } from "./client.ts";
import { Dispatcher } from "./dispatch.ts";
import type { Handle } from "./handle.ts";
import { readProgramMemory, readSignature } from "./signature.ts";

/** Owns one `PJRT_LoadedExecutable` and the `PJRT_Executable` it shows. */
export class PjrtProgram implements Program {
  readonly signature: ProgramSignature;
  readonly memory: ProgramMemory | undefined;
  readonly client: PjrtClient;
  readonly #loaded: Handle<"PJRT_LoadedExecutable">;
  readonly #dispatcher: Dispatcher;
  readonly #executable: Handle<"PJRT_Executable">;

  private constructor(
    client: PjrtClient,
    loaded: Handle<"PJRT_LoadedExecutable">,
    executable: Handle<"PJRT_Executable">,
    signature: ProgramSignature,
    memory: ProgramMemory | undefined,
  ) {
    this.client = client;
    this.#loaded = loaded;
    this.#dispatcher = new Dispatcher(client, loaded, signature);
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
    const loaded = owned.use(handles.own("loaded_executable", address, (executable) => {
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
    return this.client.track(async () => {
      checkArguments(this.signature, args);
      const buffers = args.map((argument, index) =>
        ownBuffer(this.client, argument, `parameter ${index}`)
      );
      const results = await this.#dispatcher.execute(buffers);
      return this.signature.results.map((spec, index) =>
        new PjrtBuffer(this.client, spec, results[index]!)
      );
    });
  }

  /** `Backend.run`. */
  run(
    inputs: readonly HostTensor[],
    constants: readonly DeviceBuffer[],
    options: BackendRunOptions = {},
  ): Promise<RunResult> {
    return this.client.track(() => {
      checkArguments(this.signature, [...inputs, ...constants]);
      checkHostTensors(this.signature, inputs, options.targets);
      const buffers = constants.map((constant, index) =>
        ownBuffer(this.client, constant, `parameter ${inputs.length + index}`)
      );
      return this.#dispatcher.run(inputs, buffers, options);
    });
  }

  [Symbol.dispose](): void {
    this.#executable[Symbol.dispose]();
    this.#loaded[Symbol.dispose]();
  }
}

const DELETER = { parameters: ["pointer"], result: "void" } as const;
