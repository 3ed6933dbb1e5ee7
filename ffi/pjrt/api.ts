/**
 * The one place native PJRT functions are called from. A function pointer is read only when it lies
 * wholly inside the table the plugin declares, and an error a call returns becomes a `PjrtError` and is
 * freed here.
 */

import { PjrtError } from "../errors.ts";
import { native } from "../native/mod.ts";
import { type Address, brandAddress, copyString, memoryAt } from "../pointer.ts";
import { newStruct, type Struct, type StructOf } from "../struct_layout.ts";
import { ARGS, type Callable, PJRT_Api, PJRT_Api_Version } from "./structs.ts";

const NONBLOCKING = { parameters: ["buffer"], result: "pointer", nonblocking: true } as const;

interface NativeFunction {
  readonly pointer: Deno.PointerObject;
  readonly nonblocking: Deno.UnsafeFnPointer<typeof NONBLOCKING>;
}

/** The argument struct type of a function. */
export type ArgsOf<N extends Callable> = StructOf<typeof ARGS[N]>;

/** A plugin's function table. It belongs to the library and is never freed. */
export class PjrtApi {
  /** `struct_size` of the plugin's `PJRT_Api`: functions beyond it do not exist there. */
  readonly tableSize: number;
  readonly majorVersion: number;
  readonly minorVersion: number;
  readonly #table: Deno.UnsafePointerView;
  readonly #functions = new Map<Callable, NativeFunction>();
  readonly #native = native();

  /** @param address what `GetPjrtApi` returned */
  constructor(address: Address<"PJRT_Api">) {
    this.#table = memoryAt(address);
    this.tableSize = Number(this.#table.getBigUint64(PJRT_Api.offsets.struct_size));
    const version = PJRT_Api.offsets.pjrt_api_version;
    this.majorVersion = this.#table.getInt32(version + PJRT_Api_Version.offsets.major_version);
    this.minorVersion = this.#table.getInt32(version + PJRT_Api_Version.offsets.minor_version);
  }

  /** For example `0.81`. */
  get version(): string {
    return `${this.majorVersion}.${this.minorVersion}`;
  }

  /** Whether the plugin offers a function. */
  has(name: Callable): boolean {
    const offset = PJRT_Api.offsets[name];
    return offset + 8 <= this.tableSize && this.#table.getBigUint64(offset) !== 0n;
  }

  /** A zeroed argument struct for `name`. */
  args<N extends Callable>(name: N): ArgsOf<N> {
    // deno-lint-ignore no-explicit-any
    return newStruct(ARGS[name] as any) as ArgsOf<N>;
  }

  /**
   * Calls on this thread. Only for calls that take microseconds.
   * @throws {PjrtError} when the call returns an error
   */
  call<N extends Callable>(name: N, args: ArgsOf<N>): ArgsOf<N> {
    const error = this.#native.call(this.#function(name).pointer, (args as AnyStruct).bytes);
    if (error !== null) throw this.#takeError(name, error);
    return args;
  }

  /**
   * Calls on a thread of Deno's pool (a hop of about 35 microseconds). `args`, with everything it keeps
   * alive, stays reachable until the call has returned.
   * @throws {PjrtError} when the call returns an error
   */
  async callAsync<N extends Callable>(name: N, args: ArgsOf<N>): Promise<ArgsOf<N>> {
    const error = await this.#function(name).nonblocking.call((args as AnyStruct).bytes);
    if (error !== null) throw this.#takeError(name, error);
    return args;
  }

  /** Frees an error that came some other way than as what a call returned. */
  destroyError(error: Address<"PJRT_Error">): void {
    const args = this.args("PJRT_Error_Destroy").set("error", error);
    // Not by `call`: this one returns nothing, and what the result register holds is no error.
    this.#native.call(this.#function("PJRT_Error_Destroy").pointer, args.bytes);
  }

  #function(name: Callable): NativeFunction {
    const known = this.#functions.get(name);
    if (known !== undefined) return known;
    if (!this.has(name)) {
      throw new PjrtError(
        name,
        PJRT_UNIMPLEMENTED,
        `the plugin (C API ${this.version}) does not have ${name}`,
      );
    }
    const address = this.#table.getBigUint64(PJRT_Api.offsets[name]);
    const pointer = Deno.UnsafePointer.create<
      Deno.ForeignFunction<readonly ["buffer"], "pointer", true>
    >(address)!;
    const functions = { pointer, nonblocking: new Deno.UnsafeFnPointer(pointer, NONBLOCKING) };
    this.#functions.set(name, functions);
    return functions;
  }

  /** Reads and frees a `PJRT_Error`. */
  #takeError(call: string, pointer: Deno.PointerObject): PjrtError {
    const error = brandAddress<"PJRT_Error">(Deno.UnsafePointer.value(pointer));
    const text = this.args("PJRT_Error_Message").set("error", error);
    // Returns nothing: whatever the result register holds is not an error to be freed.
    this.#native.call(this.#function("PJRT_Error_Message").pointer, text.bytes);
    const message = copyString(text.get("message"), text.get("message_size"));
    const code = this.args("PJRT_Error_GetCode").set("error", error);
    this.#native.call(this.#function("PJRT_Error_GetCode").pointer, code.bytes);
    this.destroyError(error);
    return new PjrtError(call, code.get("code"), message);
  }
}

const PJRT_UNIMPLEMENTED = 12;

// deno-lint-ignore no-explicit-any
type AnyStruct = Struct<any>;
