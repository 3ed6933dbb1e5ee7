/** Which implementation serves each configured platform. */

import { type BackendName, findPlugin, type RuntimeConfig } from "../config/mod.ts";
import { ConfigError, messageOf } from "../errors.ts";
import { type Logger, silentLogger } from "../log.ts";
import type { Backend } from "./backend.ts";
import { announceNumerics, compileSettings } from "./compiler_choices.ts";
import { checkNumerics } from "./numerics_probe.ts";
import { openPjrtBackend } from "./pjrt/backend.ts";
import { DeviceOrdinalError } from "./pjrt/client.ts";

/** Opens the client and device a configuration asks for. */
type BackendFactory = (runtime: RuntimeConfig, logger: Logger) => Promise<Backend>;

/** One entry per platform; a new backend is a folder here and an entry in this table. */
const BACKENDS = {
  cpu: (runtime, logger) =>
    openPjrtBackend({
      pluginPath: findPlugin("cpu", runtime.pjrtPlugin),
      platform: "cpu",
      deviceOrdinal: runtime.deviceOrdinal,
      logger,
    }),
  cuda: (runtime, logger) => {
    announceNumerics(runtime);
    return openPjrtBackend({
      pluginPath: findPlugin("cuda", runtime.pjrtPlugin),
      platform: "cuda",
      deviceOrdinal: runtime.deviceOrdinal,
      memFraction: runtime.memFraction,
      preallocate: runtime.preallocate,
      logger,
    });
  },
} as const satisfies Record<BackendName, BackendFactory>;

/**
 * Opens the configured backend. Where a fallback is allowed and CUDA cannot be had, it warns and opens
 * device 0 of the CPU plugin that setup fetched. An ordinal beyond the devices there are is a mistake, and
 * no reason to serve from elsewhere; nor is a GPU that computes otherwise than `numerics` says.
 * @throws {ConfigError} when the plugin cannot be used or the device does not exist
 * @throws {UnavailableError} when the plugin cannot create a client, which may pass
 */
export async function openBackend(runtime: RuntimeConfig, logger: Logger): Promise<Backend> {
  const backend = await openDevice(runtime, logger);
  if (backend.platform !== "cuda") return backend;
  try {
    const settings = compileSettings(runtime, backend, silentLogger);
    await checkNumerics(runtime, { backend, settings, logger });
    return backend;
  } catch (error) {
    await backend[Symbol.asyncDispose]();
    throw error;
  }
}

async function openDevice(runtime: RuntimeConfig, logger: Logger): Promise<Backend> {
  try {
    return await BACKENDS[runtime.backend](runtime, logger);
  } catch (error) {
    if (runtime.backend === "cpu" || !runtime.allowCpuFallback) throw error;
    if (error instanceof DeviceOrdinalError) throw error;
    if (runtime.numerics === "tf32") {
      throw new ConfigError(
        `There is no CUDA device (${messageOf(error)}), and the CPU that ` +
          "runtime.allow_cpu_fallback would serve from has no TF32, which runtime.numerics asks " +
          "for; set numerics to auto or f32",
        { cause: error },
      );
    }
    logger.warn("no CUDA device, serving from the CPU", { reason: messageOf(error) });
    return await BACKENDS.cpu({ ...runtime, pjrtPlugin: "", deviceOrdinal: 0 }, logger);
  }
}
