/** Every PJRT call in the table, made once against the CPU plugin, with what the header says it does. */

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import {
  type Address,
  addressOf,
  allocate,
  ARGS,
  type ArgsOf,
  type Callable,
  copyString,
  copyWords,
  cString,
  newStruct,
  openPlugin,
  PJRT_ExecuteOptions,
  PJRT_HostBufferSemantics,
  PJRT_Program,
  PjrtError,
} from "../../ffi/mod.ts";
import { compareWithHeader } from "../../scripts/check_structs.ts";
import { encodeCompileOptions } from "../../src/runtime/pjrt/compile_options.ts";
import { EventWaiter } from "../../src/runtime/pjrt/event_waiter.ts";
import { ADD_ROW, cpuPlugin } from "./subject.ts";

const DELETER = { parameters: ["pointer"], result: "void" } as const;

Deno.test("every call in the table works on the CPU plugin", async () => {
  const { api } = openPlugin(cpuPlugin());
  using byPlugin = new EventWaiter(api, "plugin");
  using byUs = new EventWaiter(api, "own");
  // What api.ts calls by itself when a call fails.
  const made = new Set<Callable>();
  function call<N extends Callable>(name: N, fill: (args: ArgsOf<N>) => void): ArgsOf<N> {
    made.add(name);
    const args = api.args(name);
    fill(args);
    return api.call(name, args);
  }

  call("PJRT_Plugin_Initialize", () => {});
  assert.equal(call("PJRT_Plugin_Attributes", () => {}).get("num_attributes"), 3);
  const client = call("PJRT_Client_Create", () => {}).take("client");
  const platform = call("PJRT_Client_PlatformName", (args) => args.set("client", client));
  assert.equal(
    copyString(platform.get("platform_name"), platform.get("platform_name_size")),
    "cpu",
  );
  const version = call("PJRT_Client_PlatformVersion", (args) => args.set("client", client));
  assert.ok(version.get("platform_version_size") > 0);
  const devices = call("PJRT_Client_AddressableDevices", (args) => args.set("client", client));
  assert.ok(devices.get("num_addressable_devices") >= 1);
  const device = copyWords(devices.get("addressable_devices"), 1)[0] as Address<"PJRT_Device">;
  const description = call("PJRT_Device_GetDescription", (args) => args.set("device", device))
    .take("device_description");
  const id = call("PJRT_DeviceDescription_Id", (args) => {
    args.set("device_description", description);
  }).get("id");
  assert.equal(id, 0);
  const kind = call("PJRT_DeviceDescription_Kind", (args) => {
    args.set("device_description", description);
  });
  assert.equal(copyString(kind.get("device_kind"), kind.get("device_kind_size")), "cpu");
  // The CPU keeps no memory statistics, which it says in an error: the three error calls are made too.
  assert.throws(
    () => call("PJRT_Device_MemoryStats", (args) => args.set("device", device)),
    (error: Error) => error instanceof PjrtError && error.code === "UNIMPLEMENTED",
  );
  made.add("PJRT_Error_Message").add("PJRT_Error_GetCode").add("PJRT_Error_Destroy");

  const format = cString("mlir");
  const program = newStruct(PJRT_Program).point("code", ADD_ROW).set("code_size", ADD_ROW.length)
    .point("format", format).set("format_size", 4);
  const options = encodeCompileOptions(id, {});
  const loaded = call(
    "PJRT_Client_Compile",
    (args) =>
      args.set("client", client).point("program", program)
        .point("compile_options", options).set("compile_options_size", options.length),
  ).take("executable");
  const executable = call("PJRT_LoadedExecutable_GetExecutable", (args) => {
    args.set("loaded_executable", loaded);
  }).take("executable");
  const types = call("PJRT_Executable_OutputElementTypes", (args) => {
    args.set("executable", executable);
  });
  assert.equal(types.get("num_output_types"), 2);
  const shapes = call("PJRT_Executable_OutputDimensions", (args) => {
    args.set("executable", executable);
  });
  assert.deepEqual([...copyWords(shapes.get("dims"), 4)], [2n, 3n, 2n, 3n]);
  const optimized = newStruct(PJRT_Program);
  call("PJRT_Executable_OptimizedProgram", (args) => {
    args.set("executable", executable).point("program", optimized);
  });
  assert.ok(optimized.get("code_size") > 0);
  const memory = call("PJRT_Executable_GetCompiledMemoryStats", (args) => {
    args.set("executable", executable);
  });
  assert.equal(memory.get("argument_size_in_bytes"), 36);
  const serialized = call(
    "PJRT_Executable_Serialize",
    (args) => args.set("executable", executable),
  );
  const again = call("PJRT_Executable_DeserializeAndLoad", (args) =>
    args.set("client", client)
      .set("serialized_executable", serialized.get("serialized_bytes"))
      .set("serialized_executable_size", serialized.get("serialized_bytes_size")))
    .take("loaded_executable");
  new Deno.UnsafeFnPointer(
    Deno.UnsafePointer.create<typeof DELETER>(serialized.get("serialized_executable_deleter"))!,
    DELETER,
  ).call(Deno.UnsafePointer.create(serialized.take("serialized_executable")));

  const upload = (values: number[], shape: number[]) => {
    const data = Float32Array.from(values);
    const dims = BigInt64Array.from(shape, BigInt);
    const args = call(
      "PJRT_Client_BufferFromHostBuffer",
      (args) =>
        args.set("client", client).point("data", data).set("type", 11).point("dims", dims)
          .set("num_dims", dims.length).set("device", device)
          .set("host_buffer_semantics", PJRT_HostBufferSemantics.kImmutableOnlyDuringCall),
    );
    destroyEvent(args.take("done_with_host_buffer"));
    return args.take("buffer");
  };
  function destroyEvent(event: Address<"PJRT_Event">): void {
    call("PJRT_Event_Destroy", (args) => args.set("event", event));
  }
  async function awaitEvent(event: Address<"PJRT_Event">): Promise<void> {
    made.add("PJRT_Event_OnReady");
    await byPlugin.wait(event);
    made.add("PJRT_Event_Await");
    await byUs.wait(event);
    assert.ok(call("PJRT_Event_IsReady", (args) => args.set("event", event)).get("is_ready"));
    call("PJRT_Event_Error", (args) => args.set("event", event));
    destroyEvent(event);
  }

  const inputs = BigUint64Array.of(upload([1, 2, 3, 4, 5, 6], [2, 3]), upload([10, 20, 30], [3]));
  const outputs = new BigUint64Array(2);
  const done = new BigUint64Array(1);
  call(
    "PJRT_LoadedExecutable_Execute",
    (args) =>
      args.set("executable", again).point("options", newStruct(PJRT_ExecuteOptions))
        .point("argument_lists", BigUint64Array.of(addressOf(inputs))).set("num_devices", 1)
        .set("num_args", 2).point("output_lists", BigUint64Array.of(addressOf(outputs)))
        .point("device_complete_events", done),
  );
  await awaitEvent(done[0] as Address<"PJRT_Event">);
  const host = allocate(24);
  const download = call(
    "PJRT_Buffer_ToHostBuffer",
    (args) =>
      args.set("src", outputs[0] as Address<"PJRT_Buffer">).set("dst", addressOf(host))
        .set("dst_size", 24),
  );
  await awaitEvent(download.take("event"));
  assert.deepEqual([...new Float32Array(host.buffer, 0, 6)], [11, 22, 33, 14, 25, 36]);

  for (const buffer of [...inputs, ...outputs] as Address<"PJRT_Buffer">[]) {
    call("PJRT_Buffer_Destroy", (args) => args.set("buffer", buffer));
  }
  call("PJRT_Executable_Destroy", (args) => args.set("executable", executable));
  for (const each of [loaded, again]) {
    call("PJRT_LoadedExecutable_Destroy", (args) => args.set("executable", each));
  }
  call("PJRT_Client_Destroy", (args) => args.set("client", client));
  assert.deepEqual([...made].sort(), Object.keys(ARGS).sort(), "calls that the table has");
});

const headerPath = cpuPlugin().replace(/[^/]+$/, "pjrt_c_api.h");

Deno.test({
  name: "the struct tables agree with the plugin's header, and drift is found",
  // A plugin named by hand need not have its header beside it; the one that setup fetches does.
  ignore: !existsSync(headerPath),
  fn: compareTables,
});

function compareTables(): void {
  const header = readFileSync(headerPath, "utf8");
  assert.deepEqual(compareWithHeader(header), []);
  const drift = (from: string, to: string) => {
    assert.ok(header.includes(from), from);
    return compareWithHeader(header.replace(from, to)).join("\n");
  };
  assert.match(
    drift("API_MINOR 81", "API_MINOR 82"),
    /header is C API 0\.82, the tables are 0\.81/,
  );
  assert.match(
    drift("  int64_t bytes_in_use;", "  int64_t added;\n  int64_t bytes_in_use;"),
    /added/,
  );
  assert.match(drift("  size_t num_dims;\n\n", "  int num_dims;\n\n"), /num_dims/);
  assert.match(
    drift("bool is_ready;", "int is_ready;"),
    /is_ready: 4 bytes at 24 in the header, 1/,
  );
  assert.match(drift("PJRT_Buffer* src;", "PJRT_Memory* src;"), /PJRT_Memory\* in the header/);
  assert.match(
    drift("  _PJRT_API_STRUCT_FIELD(PJRT_Event_Error);", ""),
    /PJRT_Api field \d+: the header has PJRT_Event_Await/,
  );
  assert.match(
    drift("PJRT_Buffer_Type_F16,", "PJRT_Buffer_Type_F16 = 30,"),
    /F16: 30 in the header/,
  );
}
