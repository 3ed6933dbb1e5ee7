import { type Origins, type ServerConfig, validateServerConfig } from "../../config/mod.ts";
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
    const { config, origins, workerName, warnings } = configFrom(flags);
    const logger = new Logger(config.log).with({ worker: workerName });
    for (const warning of warnings) logger.warn(warning);
    validateServerConfig(config, origins);
    logConfiguration(config, origins, logger);
    const { runWorker } = await import("../../worker/mod.ts");
    return await runWorker({ config, workerName, logger, origins });
  },
};

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
