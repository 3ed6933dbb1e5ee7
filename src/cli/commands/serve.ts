import {
  loadGatewayConfig,
  type Origins,
  type ServerConfig,
  validateServerConfig,
} from "../../config/mod.ts";
import { ConfigError } from "../../errors.ts";
import { Logger } from "../../log.ts";
import { connectParent } from "../../parent_link.ts";
import type { Command } from "../command.ts";
import { CONFIG_FLAGS, configFrom, NODE_FLAGS } from "../config_flags.ts";
import { lastValue, type ParsedFlags } from "../flags.ts";
import { settingsOf } from "../settings.ts";

/** The role of a process that serves models itself. The supervisor gives it to its workers. */
const WORKER_ROLE = "worker";
/** The role of the gateway's own process. */
const GATEWAY_ROLE = "gateway-process";

/** Runs a node, or one process of it, until it is told to stop. */
export const command: Command = {
  name: "serve",
  usage: "[serve] [flags]",
  summary: "Serves bundles over KServe V2 gRPC, with metrics and health over HTTP.",
  details:
    "A supervisor starts one worker per device (or REACTANT_CPU_WORKERS of them where there is " +
    "none), a gateway in front of several, and keeps them running. A flag beats its variable, which " +
    "beats the node file.",
  flags: [...CONFIG_FLAGS, ...NODE_FLAGS],
  async run(flags) {
    const [extra] = flags.positionals;
    if (extra !== undefined) {
      throw new ConfigError(`serve takes no arguments, got ${JSON.stringify(extra)}`);
    }
    switch (lastValue(flags, "role")?.trim().toLowerCase()) {
      case WORKER_ROLE:
        return await serveAsWorker(flags);
      case GATEWAY_ROLE:
        return await serveAsGateway(flags);
    }
    const { supervise } = await import("../../supervisor/mod.ts");
    return await supervise({ flags: flags.values, environment: Deno.env.toObject() });
  },
};

async function serveAsWorker(flags: ParsedFlags): Promise<number> {
  using link = await connectParent();
  const { config, origins, workerName, warnings } = configFrom(flags);
  const logger = new Logger(config.log).with({ worker: workerName });
  for (const warning of warnings) logger.warn(warning);
  validateServerConfig(config, origins);
  logConfiguration(config, origins, logger);
  const { runWorker } = await import("../../worker/mod.ts");
  return await runWorker({ config, workerName, logger, origins, link });
}

async function serveAsGateway(flags: ParsedFlags): Promise<number> {
  using link = await connectParent();
  const { config, warnings } = loadGatewayConfig({
    flags: flags.values,
    environment: Deno.env.toObject(),
    gatewayFile: lastValue(flags, "gateway-file"),
  });
  const logger = new Logger(config.logging);
  for (const warning of warnings) logger.warn(warning);
  const { runGateway } = await import("../../gateway/mod.ts");
  return await runGateway({ config, logger, link });
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
