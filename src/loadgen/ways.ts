/** The connection of a load, and the ways to the server that its settings ask for. */

import { ServerConnection } from "../client/mod.ts";
import { ConfigError, messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { PreparedRequest } from "./load_model.ts";
import { type Sender, SharedMemorySender, wireSender } from "./senders.ts";
import type { LoadgenSettings } from "./settings.ts";

/** Streams that any server takes on one connection (RFC 9113, section 6.5.2). */
const FEWEST_STREAMS = 100;
const FEWEST_WAITING_CALLS = 16_384;

/**
 * Connects on first use.
 * @param inFlight the most calls at once
 * @throws {InvalidArgumentError} for a malformed address
 */
export function connect(settings: LoadgenSettings, inFlight: number): ServerConnection {
  return new ServerConnection({
    url: settings.gateway,
    maxConnections: settings.connections || Math.ceil(inFlight / FEWEST_STREAMS),
    maxWaitingCalls: Math.max(FEWEST_WAITING_CALLS, inFlight),
  });
}

/** What ways are made from. */
export interface WaysOptions {
  readonly settings: LoadgenSettings;
  readonly connection: ServerConnection;
  readonly requests: readonly PreparedRequest[];
  /** The most requests at once. */
  readonly inFlight: number;
  readonly logger: Logger;
}

/**
 * Opens the ways; requests take them in turn. Disposing takes shared memory back from the server.
 * @throws {ConfigError} when there is no memory to share
 */
export function openWays(
  { settings, connection, requests, inFlight, logger }: WaysOptions,
): { readonly senders: readonly Sender[] } & AsyncDisposable {
  const wire = wireSender(connection);
  if (settings.transport === "tcp") {
    return { senders: [wire], [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  let memory: SharedMemorySender;
  try {
    memory = new SharedMemorySender({
      connection,
      requests,
      slots: inFlight,
      stagesOutputs: settings.shmOutputs,
      logger,
    });
  } catch (error) {
    throw new ConfigError(
      `--transport ${settings.transport} cannot be had here: ${
        messageOf(error)
      }; use tcp, or give ` +
        "/dev/shm more room",
    );
  }
  return {
    senders: settings.transport === "shm" ? [memory] : [wire, memory],
    [Symbol.asyncDispose]: () => memory[Symbol.asyncDispose](),
  };
}
