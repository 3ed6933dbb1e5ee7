/** `ctl set-policy`, `set-replicas` and `set-residency`. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { parseBoolean } from "../../config/mod.ts";
import { ConfigError, ServerError } from "../../errors.ts";
import { suggestion } from "../../nearest.ts";
import {
  ControlService,
  GatewayControlService,
  Residency,
  type SchedulingPolicySchema,
} from "../../protocol/mod.ts";
import { type CommandOutput, EXIT } from "../command.ts";
import { isOn, lastValue, type ParsedFlags } from "../flags.ts";
import { type CtlTarget, printJson, wantsJson } from "./ctl_target.ts";

type PolicyFields = MessageInitShape<typeof SchedulingPolicySchema>;

/** What can be set, by its name in gateway.yml. The server checks bounds and words. */
const SETTINGS: Readonly<Record<string, (name: string, text: string) => PolicyFields>> = {
  rebalance_compute_seconds: (name, text) => ({ rebalanceComputeSeconds: number(name, text) }),
  first_rebalance_compute_seconds: (name, text) => ({
    firstRebalanceComputeSeconds: number(name, text),
  }),
  hysteresis: (name, text) => ({ hysteresis: number(name, text) }),
  ema_halflife_compute_seconds: (name, text) => ({
    emaHalflifeComputeSeconds: number(name, text),
  }),
  default_replicas: (name, text) => ({ defaultReplicas: count(name, text) }),
  routing_policy: (_name, text) => ({ routingPolicy: text }),
  work_basis: (_name, text) => ({ workBasis: text }),
  routing_fill_factor: (name, text) => ({ routingFillFactor: number(name, text) }),
  routing_fill_mode: (_name, text) => ({ routingFillMode: text }),
  compaction_mode: (_name, text) => ({ compactionMode: text }),
  compaction_interval: (name, text) => ({ compactionInterval: count(name, text) }),
  forbid_memory_oversubscription: (name, text) => ({
    forbidMemoryOversubscription: boolean(name, text),
  }),
};

/** Names that `set-policy` takes. */
export const CTL_SETTINGS: readonly string[] = Object.keys(SETTINGS);

/** `ctl set-policy NAME=VALUE…`: all of it or nothing. */
export async function setPolicy(
  target: CtlTarget,
  args: readonly string[],
  flags: ParsedFlags,
  output: CommandOutput,
): Promise<number> {
  const updateMask: string[] = [];
  const policy: PolicyFields = {};
  for (const arg of args) {
    const at = arg.indexOf("=");
    if (at < 1) {
      throw new ConfigError(`set-policy takes NAME=VALUE, got ${JSON.stringify(arg)}`);
    }
    const [name, text] = [arg.slice(0, at), arg.slice(at + 1)];
    const read = SETTINGS[name];
    if (read === undefined) {
      throw new ConfigError(
        `${JSON.stringify(name)} cannot be set (there are ${CTL_SETTINGS.join(", ")})` +
          suggestion(name, CTL_SETTINGS),
      );
    }
    if (!updateMask.includes(name)) updateMask.push(name);
    Object.assign(policy, read(name, text));
  }
  const method = GatewayControlService.method.setSchedulingPolicy;
  const answer = await onGateway(target, () => target.call(method, { updateMask, policy }));
  if (wantsJson(flags)) printJson(method.output, answer, output);
  else {
    output.print(
      `changed ${updateMask.join(", ")} (generation ${answer.applied?.generation ?? 0n}); ` +
        lasting(answer.persisted),
    );
    for (const warning of answer.warnings) output.complain(`warning: ${warning}`);
  }
  return EXIT.ok;
}

/** `ctl set-replicas MODEL COUNT|all|inherit`. */
export async function setReplicas(
  target: CtlTarget,
  [name, replicas]: readonly string[],
  flags: ParsedFlags,
  output: CommandOutput,
): Promise<number> {
  const factor = lastValue(flags, "fill-factor");
  const request = {
    name: name!,
    replicas: replicas === "inherit" ? 0n : count("the number of replicas", replicas!),
    fillMode: lastValue(flags, "fill-mode") ?? "",
    // On the wire, below 0 keeps the factor and 0 inherits it.
    fillFactor: factor === undefined ? -1 : factor === "inherit" ? 0 : positive(factor),
    allowUnknownModel: isOn(flags, "allow-unknown-model"),
  };
  if (replicas === "0") {
    throw new ConfigError("A model needs at least 1 replica; inherit removes its own number");
  }
  const method = GatewayControlService.method.setModelPlacement;
  const answer = await onGateway(target, () => target.call(method, request));
  if (wantsJson(flags)) printJson(method.output, answer, output);
  else {
    output.print(
      `${answer.name}: ${answer.effectiveReplicas} replicas, ` +
        `${answer.fillMode} of ${answer.fillQuantum} items; ${lasting(answer.persisted)}`,
    );
    for (const warning of answer.warnings) output.complain(`warning: ${warning}`);
  }
  return EXIT.ok;
}

const FLOORS: Readonly<Record<string, Residency>> = {
  unpinned: Residency.UNPINNED,
  system: Residency.PINNED_SYSTEM,
  device: Residency.PINNED_DEVICE,
};

/** `ctl set-residency MODEL unpinned|system|device`, on one worker. */
export async function setResidency(
  target: CtlTarget,
  [name, floor]: readonly string[],
  flags: ParsedFlags,
  output: CommandOutput,
): Promise<number> {
  const residency = FLOORS[floor!];
  if (residency === undefined) {
    throw new ConfigError(
      `The residency must be one of ${Object.keys(FLOORS).join(", ")}, got ${
        JSON.stringify(floor)
      }`,
    );
  }
  const method = ControlService.method.setModelResidency;
  try {
    const answer = await target.call(method, { name: name!, target: residency });
    if (wantsJson(flags)) printJson(method.output, answer, output);
    else {
      output.print(`${name}: ${wordOf(answer.residency)}; until the worker restarts`);
    }
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof ServerError) || error.status !== "UNIMPLEMENTED") throw error;
    throw new ServerError(
      error.status,
      `${target.address} sets no residency: a gateway leaves it to its workers; ` +
        "give a worker's address with --target (ctl status lists them)",
      { cause: error },
    );
  }
}

/** Says so where only a gateway can answer. */
export async function onGateway<T>(target: CtlTarget, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof ServerError) || error.status !== "UNIMPLEMENTED") throw error;
    throw new ServerError(
      error.status,
      `${target.address} is no gateway: a single worker has no placement to change; ` +
        "give the gateway's address with --target",
      { cause: error },
    );
  }
}

function lasting(isPersisted: boolean): string {
  return isPersisted ? "kept across restarts" : "until the gateway restarts";
}

function wordOf(residency: Residency): string {
  return Object.entries(FLOORS).find(([, value]) => value === residency)?.[0] ?? "unknown";
}

function number(name: string, text: string): number {
  const value = text.trim() === "" ? NaN : Number(text);
  if (Number.isFinite(value)) return value;
  throw new ConfigError(`${name} must be a number, got ${JSON.stringify(text)}`);
}

function positive(text: string): number {
  const value = number("--fill-factor", text);
  if (value > 0) return value;
  throw new ConfigError(`--fill-factor must be above 0, or inherit; got ${JSON.stringify(text)}`);
}

function count(name: string, text: string): bigint {
  if (text.trim().toLowerCase() === "all") return -1n;
  if (/^\d{1,9}$/.test(text.trim())) return BigInt(text);
  throw new ConfigError(`${name} must be a whole number or all, got ${JSON.stringify(text)}`);
}

function boolean(name: string, text: string): boolean {
  const value = parseBoolean(text);
  if (value !== undefined) return value;
  throw new ConfigError(`${name} must be true or false, got ${JSON.stringify(text)}`);
}
