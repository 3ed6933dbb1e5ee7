/**
 * The argument structs of the PJRT calls we make, field by field as `pjrt_c_api.h` declares them at C API
 * 0.81. `scripts/check_structs.ts` compares every table here with a header.
 */

import {
  bool,
  defineStruct,
  type Fields,
  int32,
  int64,
  memory,
  opaque,
  pointer,
  size,
  type StructLayout,
} from "../struct_layout.ts";
import { PJRT_FUNCTIONS, type PjrtFunction } from "./functions.ts";

const header = { struct_size: size, extension_start: memory } as const;

const error = pointer("PJRT_Error");
const event = pointer("PJRT_Event");
const client = pointer("PJRT_Client");
const device = pointer("PJRT_Device");
const description = pointer("PJRT_DeviceDescription");
const executable = pointer("PJRT_Executable");
const loaded = pointer("PJRT_LoadedExecutable");
const buffer = pointer("PJRT_Buffer");

function args<Name extends string, F extends Fields>(
  name: Name,
  fields: F,
): StructLayout<`${Name}_Args`, typeof header & F> {
  return defineStruct(`${name}_Args`, { ...header, ...fields });
}

/** The head of the function table; the functions follow it as one pointer each. */
export const PJRT_Api_Version = defineStruct("PJRT_Api_Version", {
  ...header,
  major_version: int32,
  minor_version: int32,
});

/** `PJRT_Api`: where each function pointer lies. */
export const PJRT_Api = defineStruct("PJRT_Api", {
  ...header,
  pjrt_api_version: opaque("PJRT_Api_Version", PJRT_Api_Version.size),
  ...Object.fromEntries(PJRT_FUNCTIONS.map((name) => [name, memory])) as Record<
    PjrtFunction,
    typeof memory
  >,
});

/** A key and a value: `value` is the word of the union, an address or the bits of a scalar by `type`. */
export const PJRT_NamedValue = defineStruct("PJRT_NamedValue", {
  ...header,
  name: memory,
  name_size: size,
  type: int32,
  value: { ...memory, c: "union" },
  value_size: size,
});

/** Program text or bytecode and the name of its format. */
export const PJRT_Program = defineStruct("PJRT_Program", {
  ...header,
  code: memory,
  code_size: size,
  format: memory,
  format_size: size,
});

export const PJRT_ExecuteOptions = defineStruct("PJRT_ExecuteOptions", {
  ...header,
  send_callbacks: memory,
  recv_callbacks: memory,
  num_send_ops: size,
  num_recv_ops: size,
  launch_id: int32,
  non_donatable_input_indices: memory,
  num_non_donatable_input_indices: size,
  context: pointer("PJRT_ExecuteContext"),
  call_location: memory,
  num_tasks: size,
  task_ids: memory,
  incarnation_ids: memory,
});

/** The argument struct of each function we call. */
export const ARGS = {
  PJRT_Error_Destroy: args("PJRT_Error_Destroy", { error }),
  PJRT_Error_Message: args("PJRT_Error_Message", { error, message: memory, message_size: size }),
  PJRT_Error_GetCode: args("PJRT_Error_GetCode", { error, code: int32 }),

  PJRT_Plugin_Initialize: args("PJRT_Plugin_Initialize", {}),
  PJRT_Plugin_Attributes: args("PJRT_Plugin_Attributes", {
    attributes: memory,
    num_attributes: size,
  }),

  PJRT_Event_Destroy: args("PJRT_Event_Destroy", { event }),
  PJRT_Event_IsReady: args("PJRT_Event_IsReady", { event, is_ready: bool }),
  PJRT_Event_Error: args("PJRT_Event_Error", { event }),
  PJRT_Event_Await: args("PJRT_Event_Await", { event }),
  PJRT_Event_OnReady: args("PJRT_Event_OnReady", {
    event,
    callback: { ...memory, c: "PJRT_Event_OnReadyCallback" },
    user_arg: memory,
  }),

  PJRT_Client_Create: args("PJRT_Client_Create", {
    create_options: memory,
    num_options: size,
    kv_get_callback: memory,
    kv_get_user_arg: memory,
    kv_put_callback: memory,
    kv_put_user_arg: memory,
    client,
    kv_try_get_callback: memory,
    kv_try_get_user_arg: memory,
  }),
  PJRT_Client_Destroy: args("PJRT_Client_Destroy", { client }),
  PJRT_Client_PlatformName: args("PJRT_Client_PlatformName", {
    client,
    platform_name: memory,
    platform_name_size: size,
  }),
  PJRT_Client_PlatformVersion: args("PJRT_Client_PlatformVersion", {
    client,
    platform_version: memory,
    platform_version_size: size,
  }),
  PJRT_Client_AddressableDevices: args("PJRT_Client_AddressableDevices", {
    client,
    addressable_devices: memory,
    num_addressable_devices: size,
  }),
  PJRT_Client_Compile: args("PJRT_Client_Compile", {
    client,
    program: memory,
    compile_options: memory,
    compile_options_size: size,
    executable: loaded,
  }),
  PJRT_Client_BufferFromHostBuffer: args("PJRT_Client_BufferFromHostBuffer", {
    client,
    data: memory,
    type: int32,
    dims: memory,
    num_dims: size,
    byte_strides: memory,
    num_byte_strides: size,
    host_buffer_semantics: int32,
    device,
    memory: pointer("PJRT_Memory"),
    device_layout: memory,
    done_with_host_buffer: event,
    buffer,
  }),

  PJRT_Device_GetDescription: args("PJRT_Device_GetDescription", {
    device,
    device_description: description,
  }),
  PJRT_Device_MemoryStats: args("PJRT_Device_MemoryStats", {
    device,
    bytes_in_use: int64,
    peak_bytes_in_use: int64,
    peak_bytes_in_use_is_set: bool,
    num_allocs: int64,
    num_allocs_is_set: bool,
    largest_alloc_size: int64,
    largest_alloc_size_is_set: bool,
    bytes_limit: int64,
    bytes_limit_is_set: bool,
    bytes_reserved: int64,
    bytes_reserved_is_set: bool,
    peak_bytes_reserved: int64,
    peak_bytes_reserved_is_set: bool,
    bytes_reservable_limit: int64,
    bytes_reservable_limit_is_set: bool,
    largest_free_block_bytes: int64,
    largest_free_block_bytes_is_set: bool,
    pool_bytes: int64,
    pool_bytes_is_set: bool,
    peak_pool_bytes: int64,
    peak_pool_bytes_is_set: bool,
  }),
  PJRT_DeviceDescription_Id: args("PJRT_DeviceDescription_Id", {
    device_description: description,
    id: int32,
  }),
  PJRT_DeviceDescription_Kind: args("PJRT_DeviceDescription_Kind", {
    device_description: description,
    device_kind: memory,
    device_kind_size: size,
  }),

  PJRT_Executable_Destroy: args("PJRT_Executable_Destroy", { executable }),
  PJRT_LoadedExecutable_Destroy: args("PJRT_LoadedExecutable_Destroy", { executable: loaded }),
  PJRT_LoadedExecutable_GetExecutable: args("PJRT_LoadedExecutable_GetExecutable", {
    loaded_executable: loaded,
    executable,
  }),
  PJRT_LoadedExecutable_Execute: args("PJRT_LoadedExecutable_Execute", {
    executable: loaded,
    options: memory,
    argument_lists: memory,
    num_devices: size,
    num_args: size,
    output_lists: memory,
    device_complete_events: memory,
    execute_device: device,
  }),
  PJRT_Executable_OptimizedProgram: args("PJRT_Executable_OptimizedProgram", {
    executable,
    program: memory,
  }),
  PJRT_Executable_OutputElementTypes: args("PJRT_Executable_OutputElementTypes", {
    executable,
    output_types: memory,
    num_output_types: size,
  }),
  PJRT_Executable_OutputDimensions: args("PJRT_Executable_OutputDimensions", {
    executable,
    num_outputs: size,
    dims: memory,
    dim_sizes: memory,
  }),
  PJRT_Executable_GetCompiledMemoryStats: args("PJRT_Executable_GetCompiledMemoryStats", {
    executable,
    generated_code_size_in_bytes: int64,
    argument_size_in_bytes: int64,
    output_size_in_bytes: int64,
    alias_size_in_bytes: int64,
    temp_size_in_bytes: int64,
    host_generated_code_size_in_bytes: int64,
    host_argument_size_in_bytes: int64,
    host_output_size_in_bytes: int64,
    host_alias_size_in_bytes: int64,
    host_temp_size_in_bytes: int64,
    peak_memory_in_bytes: int64,
  }),
  PJRT_Executable_Serialize: args("PJRT_Executable_Serialize", {
    executable,
    serialized_bytes: memory,
    serialized_bytes_size: size,
    serialized_executable: pointer("PJRT_SerializedExecutable"),
    serialized_executable_deleter: memory,
  }),
  PJRT_Executable_DeserializeAndLoad: args("PJRT_Executable_DeserializeAndLoad", {
    client,
    serialized_executable: memory,
    serialized_executable_size: size,
    loaded_executable: loaded,
    overridden_serialized_compile_options: memory,
    overridden_serialized_compile_options_size: size,
  }),

  PJRT_Buffer_Destroy: args("PJRT_Buffer_Destroy", { buffer }),
  PJRT_Buffer_ToHostBuffer: args("PJRT_Buffer_ToHostBuffer", {
    src: buffer,
    host_layout: memory,
    dst: memory,
    dst_size: size,
    event,
  }),
} as const satisfies Partial<Record<PjrtFunction, unknown>>;

/** Functions whose argument struct is in the table. */
export type Callable = keyof typeof ARGS;
