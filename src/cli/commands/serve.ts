import {
  findPlugin,
  type LoadedConfig,
  type Origins,
  type ServerConfig,
  validateServerConfig,
} from "../../config/mod.ts";
import { ConfigError } from "../../errors.ts";
import { Logger } from "../../log.ts";
import type { Command } from "../command.ts";
import { CONFIG_FLAGS, configFrom } from "../config_flags.ts";
import { settingsOf } from "../settings.ts";

/** Runs one worker until it is told to stop. */
export const command: Command = {
  name: "serve",
  usage: "[serve] [flags]",
  summary: "Serves the bundles of a folder over KServe V2 gRPC, with metrics and health over HTTP.",
  details: "A flag beats its variable, which beats the node file.",
  flags: CONFIG_FLAGS,
  async run(flags) {
    const [extra] = flags.positionals;
    if (extra !== undefined) {
      throw new ConfigError(`serve takes no arguments, got ${JSON.stringify(extra)}`);
    }
    const loaded = configFrom(flags);
    const { origins, workerName } = loaded;
    const logger = new Logger(loaded.config.log).with({ worker: workerName });
    for (const warning of loaded.warnings) logger.warn(warning);
    const config = withPlugin(loaded, logger);
    validateServerConfig(config, origins);
    logConfiguration(config, origins, logger);
    const { runWorker } = await import("../../worker/mod.ts");
    return await runWorker({ config, workerName, logger, origins });
  },
};

/**
 * The configuration with the plugin's real path in it. Without a CUDA plugin it becomes a CPU one where
 * `allow_cpu_fallback` says so; a path that was given and is wrong is never replaced.
 */
function withPlugin({ config }: LoadedConfig, logger: Logger): ServerConfig {
  const { backend, pjrtPlugin, allowCpuFallback } = config.runtime;
  const use = (platform: "cpu" | "cuda", deviceOrdinal: number): ServerConfig => ({
    ...config,
    runtime: {
      ...config.runtime,
      backend: platform,
      deviceOrdinal,
      pjrtPlugin: findPlugin(platform, pjrtPlugin),
    },
  });
  if (backend === "cpu" || pjrtPlugin !== "" || !allowCpuFallback) {
    return use(backend, config.runtime.deviceOrdinal);
  }
  try {
    return use("cuda", config.runtime.deviceOrdinal);
  } catch (error) {
    const fallback = use("cpu", 0);
    logger.warn("Using the CPU: there is no CUDA plugin", { reason: (error as Error).message });
    return fallback;
  }
}

/** One line with every setting that is not a default, and where it came from. */
function logConfiguration(config: ServerConfig, origins: Origins, logger: Logger): void {
  const settings = settingsOf(config, origins);
  const given = settings.filter((setting) => setting.origin.source !== "default");
  logger.info("Configuration", {
    given: given.map(({ path, value, origin }) => `${path}=${value} (${origin.name})`),
  });
  logger.debug("All settings", {
    settings: Object.fromEntries(settings.map(({ path, value }) => [path, value])),
  });
}
