/** `reactant_control.GatewayControlService`: what operators see and change of the scheduling, live. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SchedulingMode } from "../config/mod.ts";
import {
  CancelledError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  UnavailableError,
} from "../errors.ts";
import { GatewayControlService, quoted, type RepackResponseSchema } from "../protocol/mod.ts";
import type { CallContext, MethodTable } from "../transport/mod.ts";
import type { SchedulingControl } from "./packing/mod.ts";
import { modelChange, policyChanges } from "./scheduling_changes.ts";
import {
  policyMessage,
  repackMessage,
  replicasValue,
  statusMessage,
  type WorkerNames,
} from "./scheduling_messages.ts";
import { localMethod } from "./worker_rpc.ts";

/** Longest wait for a repack; more is cut to this. */
const MAX_WAIT_SECONDS = 120;

export interface SchedulingServiceOptions {
  readonly mode: SchedulingMode;
  /** The router's; `undefined` in modes without placement, where nothing can be changed. */
  readonly control: SchedulingControl | undefined;
  readonly nameOf: WorkerNames;
}

/** The methods of the service, by path. Changes live in memory: a restart is back to the configuration. */
export function schedulingService(options: SchedulingServiceOptions): MethodTable {
  const { mode } = options;
  const service = GatewayControlService.method;
  const control = (): SchedulingControl => {
    if (options.control !== undefined) return options.control;
    throw new FailedPreconditionError(
      `This needs scheduling.mode lpt_packing, and the gateway runs ${mode}; ` +
        "set the mode in its configuration and restart it",
    );
  };
  return new Map([
    localMethod(
      service.getSchedulingStatus,
      () =>
        options.control === undefined
          ? { mode }
          : statusMessage(mode, options.control, options.nameOf),
    ),
    localMethod(service.setSchedulingPolicy, (request) => {
      const subject = control();
      const warnings = subject.changePolicy(policyChanges(request));
      return { applied: policyMessage(subject), warnings, persisted: false };
    }),
    localMethod(service.setModelPlacement, (request) => {
      const subject = control();
      const { name } = request;
      if (name === "") throw new InvalidArgumentError("name is empty; give the model's name");
      if (!request.allowUnknownModel && !subject.serves(name)) {
        throw new NotFoundError(
          `No worker serves model ${quoted(name)}; set allow_unknown_model to prepare for it`,
        );
      }
      const outcome = subject.changeModel(name, modelChange(request));
      return {
        name,
        configuredReplicas: replicasValue(outcome.configuredReplicas),
        effectiveReplicas: BigInt(outcome.effectiveReplicas),
        fillMode: outcome.fillMode ?? "unknown",
        fillQuantum: BigInt(outcome.fillQuantum),
        warnings: [...outcome.warnings],
        persisted: false,
      };
    }),
    localMethod(service.repack, ({ waitSeconds }, call) => repack(control(), waitSeconds, call)),
  ]);
}

async function repack(
  control: SchedulingControl,
  asked: number,
  call: CallContext,
): Promise<MessageInitShape<typeof RepackResponseSchema>> {
  if (!(asked >= 0)) {
    throw new InvalidArgumentError(`wait_seconds must be at least 0, got ${asked}`);
  }
  if (asked > 0 && control.readyWorkers.length === 0) {
    throw new UnavailableError(
      "No worker was ready at the last poll, so a repack cannot be waited for; " +
        "ask again when one is, or with wait_seconds 0",
    );
  }
  const warnings: string[] = [];
  if (asked > MAX_WAIT_SECONDS) {
    warnings.push(`wait_seconds is cut from ${asked} to ${MAX_WAIT_SECONDS}`);
  }
  const sequence = control.requestRepack();
  const startedAt = performance.now();
  const waitMs = Math.min(asked, MAX_WAIT_SECONDS) * 1000;
  if (waitMs > 0) await waitFor(control.whenRepacked(sequence), waitMs, call);
  const { repack } = control;
  const isCompleted = repack.operatorCompleted >= sequence;
  if (!isCompleted) warnings.push("the repack is queued; the next poll of the workers makes it");
  return {
    sequence: BigInt(sequence),
    completedSequence: BigInt(repack.operatorCompleted),
    completed: isCompleted,
    waitedSeconds: waitMs > 0 ? (performance.now() - startedAt) / 1000 : 0,
    repack: repackMessage(repack),
    warnings,
  };
}

/** Waits until `done`, for at most `ms`, or until the caller has gone. */
async function waitFor(done: Promise<void>, ms: number, call: CallContext): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = () => reject(call.signal.reason ?? new CancelledError("The caller has gone"));
  const timer = setTimeout(resolve, ms);
  call.signal.addEventListener("abort", onAbort);
  if (call.signal.aborted) onAbort();
  done.then(resolve);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    call.signal.removeEventListener("abort", onAbort);
  }
}
