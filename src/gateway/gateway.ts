/** The gateway process. */

import type { GatewayConfig } from "../config/mod.ts";
import { ConfigError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { ParentLink } from "../parent_link.ts";

export interface GatewayOptions {
  readonly config: GatewayConfig;
  /** At the level and in the format that `config.logging` asks for. */
  readonly logger: Logger;
  /** Absent when nobody supervises this process. */
  readonly link?: ParentLink | undefined;
}

/**
 * Serves until a stop signal, or until the supervisor is gone; then drains and resolves with the exit
 * code.
 *
 * @throws {ConfigError} when an address or a certificate cannot be had, or the workers do not fit the
 * scheduling mode
 */
export function runGateway(options: GatewayOptions): Promise<number> {
  return Promise.reject(
    new ConfigError(`Cannot serve ${options.config.listen.grpc}: the gateway is not complete`),
  );
}
