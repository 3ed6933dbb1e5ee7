/** The `Backend` over a PJRT plugin. */

import {
  allocate,
  cString,
  newStruct,
  openPlugin,
  PJRT_Program,
  PjrtError,
  type PjrtPlugin,
  PluginError,
} from "../../../ffi/mod.ts";
import { ConfigError, messageOf, UnavailableError } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import type { TensorSpec } from "../../tensor/mod.ts";
import type {
  Backend,
  BackendRunOptions,
  CompileSettings,
  DeviceBuffer,
  DeviceMemory,
  HostTensor,
  Program,
  RunResult,
} from "../backend.ts";
import { ownBuffer } from "./buffer.ts";
import { type CreateOption, PjrtClient } from "./client.ts";
import { encodeCompileOptions } from "./compile_options.ts";
import { fingerprintOf } from "./fingerprint.ts";
import { PjrtProgram } from "./program.ts";
import { adopt, download, upload } from "./transfer.ts";

export interface PjrtBackendOptions {
  /** The plugin's shared library. */
  readonly pluginPath: string;
  readonly platform: "cpu" | "cuda";
  /** Index into the devices the plugin reports. Default 0. */
  readonly deviceOrdinal?: number;
  /** CUDA: share of device memory for the allocator's arena. Default: the plugin's own. */
  readonly memFraction?: number;
  /** CUDA: claim the arena at start. Default: the plugin's own. */
  readonly preallocate?: boolean;
  /** CUDA: which allocator. Default `bfc`. */
  readonly allocator?: "default" | "platform" | "bfc" | "cuda_async";
  /** CUDA: ordinals the plugin may see, after `CUDA_VISIBLE_DEVICES`. Default: all. */
  readonly visibleDevices?: readonly number[];
  /**
   * Whether copies are to run beside executions. Default: on CUDA, which has engines for that; on a CPU
   * they are the same cores' work.
   */
  readonly overlapTransfers?: boolean;
  readonly logger?: Logger;
}

/**
 * Opens a plugin and creates a client on one device.
 * @throws {ConfigError} when the plugin cannot be used or the device does not exist
 * @throws {UnavailableError} when the plugin cannot create a client, which may pass
 */
export async function openPjrtBackend(options: PjrtBackendOptions): Promise<Backend> {
  quietNativeLog();
  let plugin;
  try {
    plugin = openPlugin(options.pluginPath);
  } catch (cause) {
    if (cause instanceof PluginError) throw new ConfigError(cause.message, { cause });
    throw cause;
  }
  if (plugin.warning !== undefined) options.logger?.warn(plugin.warning);
  const client = await createClient(plugin, options);
  try {
    checkPlatform(options, client);
    return new PjrtBackend(client, options, await fingerprintOf(client));
  } catch (error) {
    await client.close();
    throw error;
  }
}

async function createClient(plugin: PjrtPlugin, options: PjrtBackendOptions): Promise<PjrtClient> {
  try {
    return await PjrtClient.create(plugin, options.deviceOrdinal ?? 0, createOptions(options));
  } catch (cause) {
    if (!(cause instanceof PjrtError)) throw cause;
    const remedy = options.platform === "cpu"
      ? ""
      : "; see whether nvidia-smi shows the GPU here, and whether its memory is free";
    throw new UnavailableError(
      `The PJRT plugin ${JSON.stringify(options.pluginPath)} cannot use a ${options.platform} ` +
        `device: ${messageOf(cause).replace(/\.$/, "")}${remedy}`,
      { cause },
    );
  }
}

/**
 * The CPU plugin shows four devices unless told otherwise, and gives each thread pool at least one thread
 * per device: with one device, its threads are as many as the processors it may use.
 */
function cpuOptions(deviceOrdinal: number): Record<string, CreateOption> {
  return deviceOrdinal === 0 ? { cpu_device_count: 1 } : {};
}

/** @throws {ConfigError} when the plugin is one for another kind of device */
function checkPlatform({ platform, pluginPath }: PjrtBackendOptions, client: PjrtClient): void {
  if ((platform === "cpu") === (client.platformName === "cpu")) return;
  throw new ConfigError(
    `PJRT plugin ${JSON.stringify(pluginPath)} is for ${client.platformName}, ` +
      `the backend is ${platform}; name a ${platform} plugin with --pjrt-plugin or ` +
      `REACTANT_PJRT_PLUGIN, or choose the backend with --backend`,
  );
}

/**
 * XLA writes its own log lines to standard error, beside ours. Unless the operator has chosen otherwise,
 * only warnings and errors: it reads the variable once, before its first line.
 */
function quietNativeLog(): void {
  if (Deno.env.get("TF_CPP_MIN_LOG_LEVEL") === undefined) {
    Deno.env.set("TF_CPP_MIN_LOG_LEVEL", "1");
  }
}

function createOptions(options: PjrtBackendOptions): Record<string, CreateOption> {
  if (options.platform === "cpu") return cpuOptions(options.deviceOrdinal ?? 0);
  const created: Record<string, CreateOption> = { allocator: options.allocator ?? "bfc" };
  if (options.memFraction !== undefined) created.memory_fraction = { float: options.memFraction };
  if (options.preallocate !== undefined) created.preallocate = options.preallocate;
  if (options.visibleDevices !== undefined) created.visible_devices = options.visibleDevices;
  return created;
}

class PjrtBackend implements Backend {
  readonly platform: string;
  readonly deviceKind: string;
  readonly fingerprint: string;
  readonly overlapsTransfers: boolean;
  readonly adopt: Backend["adopt"];
  readonly #client: PjrtClient;

  constructor(client: PjrtClient, options: PjrtBackendOptions, fingerprint: string) {
    this.#client = client;
    this.platform = options.platform;
    this.overlapsTransfers = options.overlapTransfers ?? options.platform === "cuda";
    this.deviceKind = client.deviceKind;
    this.fingerprint = fingerprint;
    if (this.platform === "cpu") this.adopt = (spec, data) => adopt(client, spec, data);
  }

  compile(code: Uint8Array, settings: CompileSettings = {}): Promise<Program> {
    return this.#client.track(async () => {
      const { api, address, deviceId } = this.#client;
      const format = cString("mlir");
      // Terminated, because MLIR text is scanned up to a zero byte; not counted in `code_size`.
      const terminated = allocate(code.length + 1);
      terminated.set(code);
      const program = newStruct(PJRT_Program)
        .point("code", terminated).set("code_size", code.length)
        .point("format", format).set("format_size", format.length - 1);
      const compileOptions = encodeCompileOptions(deviceId, settings);
      const args = api.args("PJRT_Client_Compile")
        .set("client", address)
        .point("program", program)
        .point("compile_options", compileOptions)
        .set("compile_options_size", compileOptions.length);
      await api.callAsync("PJRT_Client_Compile", args);
      return await PjrtProgram.adopt(this.#client, args.take("executable"));
    });
  }

  deserialize(serialized: Uint8Array): Promise<Program> {
    return this.#client.track(async () => {
      const { api, address } = this.#client;
      const args = api.args("PJRT_Executable_DeserializeAndLoad")
        .set("client", address)
        .point("serialized_executable", serialized)
        .set("serialized_executable_size", serialized.length);
      await api.callAsync("PJRT_Executable_DeserializeAndLoad", args);
      return await PjrtProgram.adopt(this.#client, args.take("loaded_executable"));
    });
  }

  upload(spec: TensorSpec, data: Uint8Array): Promise<DeviceBuffer> {
    return this.#client.track(() => upload(this.#client, spec, data));
  }

  download(buffer: DeviceBuffer, target?: Uint8Array): Promise<Uint8Array> {
    return this.#client.track(() =>
      download(this.#client, ownBuffer(this.#client, buffer, "the buffer to download"), target)
    );
  }

  async run(
    program: Program,
    inputs: readonly HostTensor[],
    constants: readonly DeviceBuffer[],
    options?: BackendRunOptions,
  ): Promise<RunResult> {
    if (!(program instanceof PjrtProgram) || program.client !== this.#client) {
      throw new TypeError("the program is not one of this device");
    }
    return await program.run(inputs, constants, options);
  }

  memory(): DeviceMemory | undefined {
    const { api, device } = this.#client;
    if (!api.has("PJRT_Device_MemoryStats")) return undefined;
    const args = api.args("PJRT_Device_MemoryStats").set("device", device);
    try {
      api.call("PJRT_Device_MemoryStats", args);
    } catch (error) {
      if (error instanceof PjrtError && error.code === "UNIMPLEMENTED") return undefined;
      throw error;
    }
    return {
      inUseBytes: args.get("bytes_in_use"),
      limitBytes: args.get("bytes_limit_is_set") ? args.get("bytes_limit") : undefined,
      peakInUseBytes: args.get("peak_bytes_in_use_is_set")
        ? args.get("peak_bytes_in_use")
        : undefined,
      poolBytes: args.get("pool_bytes_is_set") ? args.get("pool_bytes") : undefined,
    };
  }

  liveHandles(): Readonly<Record<string, number>> {
    return this.#client.handles.live();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#client.close();
  }
}
