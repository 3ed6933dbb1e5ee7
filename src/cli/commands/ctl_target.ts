/** The server that `ctl` talks to: reaching it, and saying what to do when that fails. */

import type {
  DescMessage,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { toJson } from "@bufbuild/protobuf";
import { ServerConnection } from "../../client/mod.ts";
import { ConfigError, InvalidArgumentError, ServerError, type StatusName } from "../../errors.ts";
import type { CommandOutput } from "../command.ts";
import { type FlagSpec, isOn, lastValue, type ParsedFlags } from "../flags.ts";

const TARGET_VARIABLE = "REACTANT_CTL_TARGET";
const DEFAULT_TARGET = "127.0.0.1:8001";
const DEFAULT_TIMEOUT_SECONDS = 10;

/** The flags of every action. */
export const CTL_FLAGS: readonly FlagSpec[] = [
  {
    name: "target",
    kind: "value",
    placeholder: "HOST:PORT",
    help: "gateway or worker; grpcs://host:port speaks TLS",
    variable: TARGET_VARIABLE,
    default: DEFAULT_TARGET,
  },
  {
    name: "tls-ca",
    kind: "value",
    placeholder: "FILE",
    help: "PEM authorities to trust besides the system's",
  },
  {
    name: "timeout-seconds",
    kind: "value",
    placeholder: "N",
    help: "how long to wait for an answer",
    default: String(DEFAULT_TIMEOUT_SECONDS),
  },
  { name: "json", kind: "switch", help: "print the answer as one JSON object" },
  {
    name: "wait-seconds",
    kind: "value",
    placeholder: "N",
    help: "repack: how long to wait until it is done; 0 only asks for it",
    default: "30",
  },
  {
    name: "fill-mode",
    kind: "value",
    placeholder: "run|spread|inflight|inherit",
    help: "set-replicas: how requests are spread over the replicas",
  },
  {
    name: "fill-factor",
    kind: "value",
    placeholder: "N|inherit",
    help: "set-replicas: batches a replica gets before the next one has its turn",
  },
  {
    name: "allow-unknown-model",
    kind: "switch",
    help: "set-replicas: also for a model that no worker serves yet",
  },
];

/** A server, and calls on it. */
export interface CtlTarget {
  /** As the user wrote it. */
  readonly address: string;
  /**
   * One call; `extraSeconds` go on top of the timeout. Rejects with a `ServerError` whose message says
   * what to do about it.
   */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    fields: MessageInitShape<I>,
    extraSeconds?: number,
  ): Promise<MessageShape<O>>;
}

/** Runs an action on the server that the flags name, and closes the connection after it. */
export async function withTarget(
  flags: ParsedFlags,
  run: (target: CtlTarget) => Promise<number>,
): Promise<number> {
  const address = lastValue(flags, "target") ?? (Deno.env.get(TARGET_VARIABLE) || DEFAULT_TARGET);
  const timeoutSeconds = positiveSeconds(flags, "timeout-seconds", DEFAULT_TIMEOUT_SECONDS);
  const caFile = lastValue(flags, "tls-ca");
  const ca = caFile === undefined ? undefined : await readCa(caFile);
  await using connection = connect(address, ca);
  return await run({
    address,
    async call(method, fields, extraSeconds = 0) {
      const deadlineMs = performance.now() + (timeoutSeconds + extraSeconds) * 1000;
      try {
        return await connection.inference.call(method, fields, { deadlineMs });
      } catch (error) {
        throw error instanceof ServerError ? explained(error, address, method.name) : error;
      }
    },
  });
}

/** Prints a message as JSON, with the field names of the protocol and numbers of 64 bits as text. */
export function printJson<Schema extends DescMessage>(
  schema: Schema,
  message: MessageShape<Schema>,
  output: CommandOutput,
): void {
  const json = toJson(schema, message, { useProtoFieldName: true, alwaysEmitImplicit: true });
  output.print(JSON.stringify(json, null, 2));
}

/** Whether the answer is wanted as JSON. */
export function wantsJson(flags: ParsedFlags): boolean {
  return isOn(flags, "json");
}

/**
 * Seconds that a flag gives.
 *
 * @throws {ConfigError} when they are no number from 0 to a day
 */
export function positiveSeconds(flags: ParsedFlags, name: string, fallback: number): number {
  const text = lastValue(flags, name);
  if (text === undefined) return fallback;
  const seconds = text.trim() === "" ? NaN : Number(text);
  if (seconds >= 0 && seconds <= 86_400) return seconds;
  throw new ConfigError(
    `--${name} must be a number from 0 to 86400, got ${JSON.stringify(text)}`,
  );
}

function connect(url: string, ca: string | undefined): ServerConnection {
  try {
    return new ServerConnection({ url, tls: ca === undefined ? {} : { ca } });
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw new ConfigError(`--target: ${error.message}`);
    throw error;
  }
}

async function readCa(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw new ConfigError(`--tls-ca: cannot read ${JSON.stringify(path)}: ${error}`);
  }
}

const REMEDIES: Partial<Record<StatusName, string>> = {
  UNAVAILABLE:
    `if nothing listens there, give the address with --target or ${TARGET_VARIABLE}; grpcs:// in ` +
    "front of it is TLS",
  DEADLINE_EXCEEDED: "it is slow or hangs; give it longer with --timeout-seconds",
};

function explained(error: ServerError, address: string, method: string): ServerError {
  const remedy = REMEDIES[error.status];
  const message = `${address} ${method}: ${error.message || error.status}` +
    (remedy === undefined ? "" : `; ${remedy}`);
  return new ServerError(error.status, message, { cause: error });
}
