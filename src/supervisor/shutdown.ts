/** Ending all children of a node, in order and in time. */

import type { Child, ChildEnd, ChildLog } from "./child.ts";

/** The gateway's part of the time: what it forwards needs workers that still answer. */
const GATEWAY_PART = 2 / 3;

/** A child and the end of its last run. */
export interface RunningChild {
  readonly child: Child;
  readonly ended: Promise<ChildEnd>;
}

/** What there is to stop, and how patiently. */
export interface ShutdownOptions {
  readonly workers: readonly RunningChild[];
  readonly gateway: RunningChild | undefined;
  /** For all children together. */
  readonly seconds: number;
  /** Resolves when nobody wants to wait any more. */
  readonly hurry: Promise<unknown>;
  readonly log: ChildLog;
}

/**
 * Lets the gateway finish what it has taken, then the workers; whoever is left when the common time is
 * over is killed. Resolves when every child has ended, with whether all of them left by themselves.
 */
export async function stopChildren(options: ShutdownOptions): Promise<boolean> {
  const { workers, gateway, seconds, log } = options;
  const startMs = performance.now();
  const leftMs = () => Math.max(0, seconds * 1000 - (performance.now() - startMs));
  let isHurried = false;
  const hurry = options.hurry.then(() => isHurried = true);
  if (gateway !== undefined) {
    gateway.child.stop();
    await settled([gateway], leftMs() * GATEWAY_PART, hurry);
  }
  for (const { child } of workers) child.stop();
  const all = [...workers, ...(gateway ? [gateway] : [])];
  const isClean = await settled(all, isHurried ? 0 : leftMs(), hurry);
  for (const { child } of all) {
    if (child.pid === undefined) continue;
    log.warn(
      isHurried
        ? `${child.name} is killed at once (SIGKILL)`
        : `${child.name} did not leave within ${seconds}s: SIGKILL`,
    );
    child.kill();
  }
  await Promise.all(all.map(({ ended }) => ended));
  return isClean;
}

/** Whether all children end before the time is over or somebody is in a hurry. */
async function settled(
  children: readonly RunningChild[],
  limitMs: number,
  hurry: Promise<unknown>,
): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<false>((resolve) => timer = setTimeout(() => resolve(false), limitMs));
  const isSettled = await Promise.race([
    Promise.all(children.map(({ ended }) => ended)).then(() => true),
    late,
    hurry.then(() => false),
  ]);
  clearTimeout(timer);
  return isSettled;
}
