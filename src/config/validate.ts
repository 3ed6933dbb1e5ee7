/** Checks that concern several keys at once, or the disk. */

import { ConfigError } from "../errors.ts";
import { nameOf, type Origins } from "./resolve.ts";
import type { ServerConfig } from "./server_config.ts";

/**
 * The last check before anything is loaded: settings that need each other agree, and model folders exist.
 * Touches the file system.
 *
 * @throws {ConfigError} naming the key, its origin and the remedy
 */
export function validateServerConfig(config: ServerConfig, origins: Origins): void {
  validateSettings(config, origins);
  for (const folder of config.modelDirs) checkFolder(folder, nameOf("model_dirs", origins));
}

/**
 * The part of `validateServerConfig` that holds on any machine: ports differ, and settings that need each
 * other agree.
 *
 * @throws {ConfigError} naming the key, its origin and the remedy
 */
export function validateSettings(config: ServerConfig, origins: Origins): void {
  const name = (path: string) => nameOf(path, origins);
  if (config.modelDirs.length === 0) {
    throw new ConfigError(`${name("model_dirs")} must name at least one folder; give --model-dir`);
  }
  const { endpoints, meta, runtime } = config;
  if (endpoints.metricsPort === endpoints.port) {
    throw new ConfigError(
      `${name("endpoints.metrics_port")} must differ from ${name("endpoints.port")}, ` +
        `both are ${endpoints.port}`,
    );
  }
  if (config.modelControlMode === "dynamic" && config.modelPollSeconds <= 0) {
    throw new ConfigError(
      `${name("model_poll_seconds")} must be above 0 when model_control_mode is dynamic, ` +
        `got ${config.modelPollSeconds}; use model_control_mode static to stop watching`,
    );
  }
  if (meta.scratchBytes > 0 && meta.scratchBytes < meta.scratchSlots) {
    throw new ConfigError(
      `${name("meta.scratch_bytes")} ${meta.scratchBytes} cannot be parted into ` +
        `${meta.scratchSlots} (${name("meta.scratch_slots")}); give more bytes or fewer parts`,
    );
  }
  if (runtime.numerics === "tf32" && runtime.backend !== "cuda") {
    throw new ConfigError(
      `${name("runtime.numerics")} tf32 needs runtime.backend cuda, got ${runtime.backend}`,
    );
  }
  if ((endpoints.tlsCert === "") !== (endpoints.tlsKey === "")) {
    const [given, missing] = endpoints.tlsCert === "" ? ["key", "cert"] : ["cert", "key"];
    throw new ConfigError(
      `${name(`endpoints.tls_${given}`)} is given without endpoints.tls_${missing}; TLS needs both`,
    );
  }
  if (endpoints.tlsClientCa !== "") {
    if (endpoints.tlsCert === "") {
      throw new ConfigError(
        `${name("endpoints.tls_client_ca")} needs endpoints.tls_cert and endpoints.tls_key`,
      );
    }
    if (endpoints.transport !== "grpc-js") {
      throw new ConfigError(
        `${name("endpoints.tls_client_ca")} needs endpoints.transport grpc-js; ` +
          "the native transport cannot ask clients for certificates",
      );
    }
  }
}

function checkFolder(folder: string, name: string): void {
  let isDirectory = false;
  try {
    isDirectory = Deno.statSync(folder).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new ConfigError(
        `Model folder ${JSON.stringify(folder)} (${name}) does not exist; ` +
          "create it or give --model-dir",
      );
    }
    throw new ConfigError(
      `Model folder ${JSON.stringify(folder)} (${name}) cannot be read: ${
        (error as Error).message
      }`,
      { cause: error },
    );
  }
  if (!isDirectory) {
    throw new ConfigError(`Model folder ${JSON.stringify(folder)} (${name}) is not a folder`);
  }
}
