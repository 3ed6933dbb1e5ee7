/** How much of this machine's CPU the node may use. Linux; elsewhere only the count is known. */

import { parseCpuList } from "../config/mod.ts";
import { controlGroups, type ReadFile, readKernelFile } from "../control_group.ts";

/** What a process may compute on. */
export interface ProcessorLimits {
  /** Processors it may run on, ascending; at least one. */
  readonly processors: readonly number[];
  /** Processors' worth of time per second that its control group grants; `undefined`: no quota. */
  readonly quota: number | undefined;
}

/** The limits of this process: its affinity, and the tightest quota of its control groups. */
export function processorLimits(
  readFile: ReadFile = readKernelFile,
  hardwareCount: number = navigator.hardwareConcurrency,
): ProcessorLimits {
  const list = /^Cpus_allowed_list:\s*(.+)$/m.exec(readFile("/proc/self/status") ?? "")?.[1];
  const processors = (list === undefined ? undefined : parseCpuList(list)) ??
    Array.from({ length: Math.max(1, hardwareCount) }, (_, processor) => processor);
  return { processors, quota: groupQuota(readFile) };
}

/** How many threads the limits are worth: whole processors, rounded up, at least one. */
export function usableProcessors({ processors, quota }: ProcessorLimits): number {
  const granted = quota === undefined ? processors.length : Math.ceil(quota);
  return Math.max(1, Math.min(processors.length, granted));
}

/** A group is bound by its own quota and by those of all groups above it. */
function groupQuota(readFile: ReadFile): number | undefined {
  const quotas: number[] = [];
  for (const { folder, isUnified } of controlGroups("cpu", readFile)) {
    quotas.push(
      ...isUnified ? unifiedQuota(readFile(`${folder}/cpu.max`)) : legacyQuota(
        readFile(`${folder}/cpu.cfs_quota_us`),
        readFile(`${folder}/cpu.cfs_period_us`),
      ),
    );
  }
  return quotas.length === 0 ? undefined : Math.min(...quotas);
}

/** `200000 100000` is two processors; `max 100000` is no quota. */
function unifiedQuota(text: string | undefined): number[] {
  const [quota, period] = (text ?? "").trim().split(/\s+/);
  return ratio(Number(quota), Number(period));
}

function legacyQuota(quota: string | undefined, period: string | undefined): number[] {
  return quota === undefined || period === undefined ? [] : ratio(Number(quota), Number(period));
}

function ratio(quota: number, period: number): number[] {
  return quota > 0 && period > 0 ? [quota / period] : [];
}
