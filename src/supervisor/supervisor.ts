/**
 * The parent of a node's processes. It plans the node, starts the children, keeps them running, passes
 * on what they log, and ends them together. It loads no model and sees no request.
 *
 * States: planning → starting → ready ⇄ not ready → stopping → stopped.
 */

import { dirname } from "node:path";
import { type Environment, RUNTIME_DIR_VARIABLE } from "../config/mod.ts";
import { groupMemoryBytes } from "../control_group.ts";
import { ConfigError } from "../errors.ts";
import {
  CHILD_NAME_VARIABLE,
  type ChildReport,
  SUPERVISOR_SOCKET_VARIABLE,
} from "../parent_link.ts";
import { pause } from "../pause.ts";
import { selfCommand, surroundings } from "../standalone.ts";
import { ignoreStraySignals } from "../stop_signals.ts";
import { removeAbandoned } from "./abandoned.ts";
import { Child, type ChildEnd, CONFIG_EXIT_CODE } from "./child.ts";
import { machineProbes } from "./device_probes.ts";
import { ExitCauses } from "./exit_causes.ts";
import { startGuard } from "./guard.ts";
import { heapSettings } from "./heap_share.ts";
import { LinkServer } from "./link_server.ts";
import { LogSink } from "./log_sink.ts";
import { LINK_SOCKET, openNodeFolder } from "./node_folder.ts";
import { type NodePlan, planNode } from "./node_plan.ts";
import { type Flags, lastFlag } from "./node_source.ts";
import { processorLimits } from "./processors.ts";
import { ServiceManager } from "./service_manager.ts";
import { type RunningChild, stopChildren } from "./shutdown.ts";
import { listenForStop, type StopRequest } from "./stop_request.ts";
import { SUPERVISOR_PREFIX, SupervisorLog } from "./supervisor_log.ts";

/** How long the last lines may take to be written. */
const FLUSH_MS = 5000;
/** How long children may take to leave a node that cannot start. */
const FAILED_START_SECONDS = 3;

/** What the operator gave. */
export interface SuperviseOptions {
  /** Values by flag name without dashes. */
  readonly flags: Flags;
  readonly environment: Environment;
}

/**
 * Runs a node until it is told to stop or cannot go on; resolves with the exit code: 0 after a signal,
 * 1 when a child failed too often or was killed in a hurry.
 *
 * @throws {ConfigError} when the node cannot run as it is described: before anything is started, or
 *   after everything has ended again because a child said so, with its words
 */
export async function supervise(options: SuperviseOptions): Promise<number> {
  const sink = new LogSink({
    write: (bytes) => Deno.stdout.write(bytes),
    describeLoss: (lines) =>
      `${SUPERVISOR_PREFIX}warning: ${lines} log lines were dropped while standard output took none`,
  });
  // Before anything else: process 1 of a container never gets a signal that nobody listens for.
  using stop = listenForStop();
  const { code, complaint, hasPendingReads } = await runNode(options, sink, stop);
  // A write or a read that never ends would keep the process; there is nothing left to wait for.
  if (!await sink.flush(FLUSH_MS) || hasPendingReads) Deno.exit(code);
  if (complaint !== undefined) throw new ConfigError(complaint);
  return code;
}

/** How a node ended. */
interface NodeEnd {
  readonly code: number;
  /** What a child says is wrong with its configuration. */
  readonly complaint?: string;
  /** A descendant of a child holds a stream that this process reads. */
  readonly hasPendingReads?: boolean;
}

async function runNode(
  { flags, environment }: SuperviseOptions,
  sink: LogSink,
  stop: StopRequest,
): Promise<NodeEnd> {
  using folder = openNodeFolder({
    folder: lastFlag(flags, "runtime-dir") ?? (environment[RUNTIME_DIR_VARIABLE] || undefined),
  });
  const plan = await Promise.race([
    stop.first,
    planNode({
      flags,
      environment,
      probes: machineProbes,
      limits: processorLimits(),
      writeNodeFile: folder.write,
    }),
  ]);
  if (typeof plan === "string") {
    sink.line(SUPERVISOR_PREFIX, `${plan} received before anything was started`);
    return { code: 0 };
  }
  const log = new SupervisorLog(
    sink,
    plan.workers[0]?.loaded.config.log ?? plan.gateway!.config.logging,
  );
  using _stray = ignoreStraySignals((message) => log.warn(message));
  for (const note of plan.notes) {
    if (note.level === "warn") log.warn(note.text);
    else log.info(note.text);
  }
  if (folder.taken !== undefined) {
    log.warn(
      `${folder.taken} is that of another running node, and what health checks find; give this one ` +
        "a folder of its own with --runtime-dir, to them too",
    );
  }
  const abandoned = await removeAbandoned(dirname(folder.privateFolder));
  if (abandoned.length > 0) log.info(`removed what killed nodes left: ${abandoned.join(", ")}`);
  using manager = new ServiceManager(folder.privateFolder, (name) => environment[name]);
  await using guard = startGuard(
    folder.privateFolder,
    (reason) =>
      log.warn(`no guard for orphans (${reason}); children leave by themselves when this ends`),
  );
  const memoryBytes = groupMemoryBytes();
  if (memoryBytes !== undefined) {
    log.info(`${Math.floor(memoryBytes / 2 ** 20)} MiB of memory for all of this (control group)`);
  }
  const heap = heapSettings(memoryBytes, plan.workers.length + (plan.gateway ? 1 : 0));
  // Asked once: when a newer file took the place of this program's, the system knows no path for the one
  // that runs, and a child that is started again is of the newer.
  const self = selfCommand([], surroundings(), heap.v8Flags);
  const causes = new ExitCauses();
  const children = new Map<string, Child>();
  using link = new LinkServer(
    `${folder.privateFolder}/${LINK_SOCKET}`,
    (report: ChildReport) => children.get(report.name)?.report(report),
  );
  let isStopping = false;
  const onState = readinessWatch(plan, children, manager, log, () => isStopping);
  const start = ({ name, args, environment }: {
    readonly name: string;
    readonly args: readonly string[];
    readonly environment: Readonly<Record<string, string>>;
  }): RunningChild => {
    const child = new Child({
      name,
      spawn: () => {
        folder.restore();
        return new Deno.Command(self.command, {
          args: [...self.args, ...args],
          env: {
            ...heap.environment,
            ...environment,
            [SUPERVISOR_SOCKET_VARIABLE]: link.path,
            [CHILD_NAME_VARIABLE]: name,
          },
          stdin: "null",
          stdout: "piped",
          stderr: "piped",
        }).spawn();
      },
      maxRestarts: plan.maxRestarts,
      sink,
      log,
      now: () => performance.now(),
      sleep: pause,
      onStarted: (pid) => guard?.watch(pid),
      onEnded: (pid) => guard?.forget(pid),
      onState,
      explainEnd: (end) => causes.explain(name, end),
    });
    children.set(name, child);
    return { child, ended: child.run() };
  };
  const workers = plan.workers.map(start);
  const gateway = plan.gateway === undefined ? undefined : start(plan.gateway);
  const all = gateway === undefined ? workers : [...workers, gateway];

  const failed = new Promise<{ readonly name: string; readonly end: ChildEnd }>((resolve) => {
    for (const { child, ended } of all) {
      ended.then((end) => {
        if (end.reason !== "stopped") resolve({ name: child.name, end });
      });
    }
  });
  const cause = await Promise.race([stop.first, failed]);
  isStopping = true;
  manager.notify("STOPPING=1");
  let end: NodeEnd = { code: 0 };
  let seconds = plan.stopSeconds;
  if (typeof cause === "string") {
    log.info(`${cause} received: stopping (again: at once)`);
  } else if (cause.end.reason === "configuration") {
    seconds = FAILED_START_SECONDS;
    const message = cause.end.message.replace(/^reactantserver: /, "");
    end = { code: CONFIG_EXIT_CODE, complaint: `${cause.name}: ${message}` };
    log.error(`${cause.name} cannot run as it is configured; node shutting down`);
  } else {
    end = { code: 1 };
  }
  const hurry = typeof cause === "string" ? stop.second : Promise.race([stop.first, stop.second]);
  const isHurried = hurry.then(() => true);
  await stopChildren({ workers, gateway, seconds, hurry, log });
  const isKilled = await Promise.race([isHurried, Promise.resolve(false)]);
  if (end.code === 0 && isKilled) end = { code: 1 };
  log.info(`node stopped with exit code ${end.code}`);
  return { ...end, hasPendingReads: all.some(({ child }) => child.hasLostStream) };
}

/** Says when the node as a whole becomes ready, or is not any more. */
function readinessWatch(
  plan: NodePlan,
  children: ReadonlyMap<string, Child>,
  manager: ServiceManager,
  log: SupervisorLog,
  isStopping: () => boolean,
): () => void {
  let isReady = false;
  return () => {
    if (isStopping()) return;
    const ready = plan.workers.filter(({ name }) => children.get(name)?.state === "ready").length;
    const count = plan.workers.length === 0
      ? "gateway"
      : `${ready} of ${plan.workers.length} workers ready`;
    const isNow = plan.gateway === undefined
      ? ready > 0
      : children.get(plan.gateway.name)?.state === "ready";
    if (isNow !== isReady) {
      if (isNow) log.info(`node is ready: ${count}`);
      else log.info(`node is not ready: ${count}`);
    }
    manager.notify(`${isNow && !isReady ? "READY=1\n" : ""}STATUS=${count}`);
    isReady = isNow;
  };
}
