/** Waiting for an event that reports a failure, which the CPU plugin seldom has one to offer of. */

import assert from "node:assert/strict";
import {
  type Address,
  ARGS,
  type ArgsOf,
  brandAddress,
  type Callable,
  memoryAt,
  newStruct,
  openPlugin,
  PJRT_Api,
  type PjrtApi,
} from "../../ffi/mod.ts";
import { EventWaiter } from "../../src/runtime/pjrt/event_waiter.ts";
import { cpuPlugin } from "./subject.ts";

const CALL = { parameters: ["buffer"], result: "pointer" } as const;
const ON_READY = { parameters: ["pointer", "usize"], result: "void" } as const;

/** A `PJRT_Error` that nobody has taken yet: of a call that gets a struct of no size. */
function newError(table: Deno.PointerObject): Deno.PointerObject {
  const address = brandAddress<"PJRT_Api">(Deno.UnsafePointer.value(table));
  const call = memoryAt(address).getBigUint64(PJRT_Api.offsets.PJRT_Plugin_Attributes);
  const args = newStruct(ARGS.PJRT_Plugin_Attributes).set("struct_size", 0);
  const error = new Deno.UnsafeFnPointer(Deno.UnsafePointer.create(call)!, CALL).call(args.bytes);
  assert.ok(error, "the plugin takes a struct of no size");
  return error;
}

Deno.test("wait() frees the error that an event reports, and leaves telling it to the event", async () => {
  const { api } = openPlugin(cpuPlugin());
  const library = Deno.dlopen(cpuPlugin(), { GetPjrtApi: { parameters: [], result: "pointer" } });
  const table = library.symbols.GetPjrtApi()!;
  const calls: string[] = [];
  // Everything is the plugin's, but for the event: it fails at once.
  const failing = {
    args: <N extends Callable>(name: N) => api.args(name),
    call<N extends Callable>(name: N, args: ArgsOf<N>): ArgsOf<N> {
      calls.push(name);
      // It returns nothing, so what `call` takes for an error is whatever a register holds.
      assert.notEqual(name, "PJRT_Error_Destroy");
      if (name !== "PJRT_Event_OnReady") return api.call(name, args);
      const onReady = args as unknown as ArgsOf<"PJRT_Event_OnReady">;
      const callback = Deno.UnsafePointer.create<typeof ON_READY>(onReady.get("callback"))!;
      const id = onReady.get("user_arg");
      new Deno.UnsafeFnPointer(callback, ON_READY).call(newError(table), id);
      return args;
    },
    destroyError: (error: Address<"PJRT_Error">) => {
      calls.push("destroyError");
      api.destroyError(error);
    },
  } as unknown as PjrtApi;
  using waiter = new EventWaiter(failing, "plugin");
  for (let round = 0; round < 100; round++) {
    await waiter.wait(brandAddress<"PJRT_Event">(64n));
    assert.deepEqual(calls.splice(0), ["PJRT_Event_OnReady", "destroyError"]);
  }
  library.close();
});
