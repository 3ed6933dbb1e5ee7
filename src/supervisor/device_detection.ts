/** Which devices a node has. A device is a selector: an ordinal or a UUID, passed on as it is. */

import { type DeviceChoice, type Environment, GPUS_VARIABLE } from "../config/mod.ts";
import { ConfigError } from "../errors.ts";

/** Most devices a count may ask for; more is a slip of the finger. */
const MAX_DEVICES = 1024;

/** How to look when nobody says. Both resolve to nothing rather than fail. */
export interface DeviceProbes {
  /** The indices that `nvidia-smi` lists. */
  queryDriver(): Promise<readonly string[]>;
  /** The names in `/dev`. */
  listDeviceFiles(): Promise<readonly string[]>;
}

/** Devices, and who says so. */
export interface DetectedDevices {
  readonly selectors: readonly string[];
  /** For messages. */
  readonly source: string;
  /** Nobody named them: they were found by looking at the machine. */
  readonly isFound: boolean;
}

/** What `detectDevices` looks at. */
export interface DetectionSources {
  /** `--gpus`, in the words of the variable. */
  readonly flag?: string | undefined;
  readonly environment: Environment;
  /** The node file's `gpus`. */
  readonly choice: DeviceChoice;
  readonly probes: DeviceProbes;
}

/**
 * The devices of this node. The first that decides wins: `--gpus`, `REACTANT_GPUS`, the node file,
 * `CUDA_VISIBLE_DEVICES`, `nvidia-smi`, device files; else there are none.
 *
 * @throws {ConfigError} when a flag or variable is given and names nothing
 */
export async function detectDevices(sources: DetectionSources): Promise<DetectedDevices> {
  const { flag, environment, choice, probes } = sources;
  if (flag !== undefined) return named(parseSelectors(flag, "--gpus"), "--gpus");
  const variable = environment[GPUS_VARIABLE];
  if (variable !== undefined) return named(parseSelectors(variable, GPUS_VARIABLE), GPUS_VARIABLE);
  if (choice !== "auto") return named(choice, "the node file");
  const visible = environment["CUDA_VISIBLE_DEVICES"];
  if (visible !== undefined) return named(visibleDevices(visible), "CUDA_VISIBLE_DEVICES");
  const driver = await probes.queryDriver();
  if (driver.length > 0) return { selectors: driver, source: "nvidia-smi", isFound: true };
  const files = deviceOrdinals(await probes.listDeviceFiles());
  if (files.length > 0) return { selectors: files, source: "/dev", isFound: true };
  return { selectors: [], source: "no device found", isFound: true };
}

/** A count (`2` is devices 0 and 1; `0` none) or a list (`2,` is device 2 alone). */
function parseSelectors(text: string, name: string): string[] {
  const trimmed = text.trim();
  if (/^\d+$/.test(trimmed)) {
    const count = Number(trimmed);
    if (count <= MAX_DEVICES) return Array.from({ length: count }, (_, index) => String(index));
    throw new ConfigError(`${name} must be a count of at most ${MAX_DEVICES}, got ${trimmed}`);
  }
  const selectors = splitList(trimmed);
  if (selectors.length > 0) return selectors;
  throw new ConfigError(
    `${name} must be a count of devices or a list of ordinals or UUIDs, got ` +
      `${JSON.stringify(text)}; unset it to have them detected, or set it to 0 for none`,
  );
}

/** CUDA sees what stands before the first number that is no ordinal; `-1` is how people say "none". */
function visibleDevices(text: string): string[] {
  const selectors = splitList(text);
  const end = selectors.findIndex((selector) => /^-\d+$/.test(selector));
  return end === -1 ? selectors : selectors.slice(0, end);
}

function splitList(text: string): string[] {
  return text.split(",").map((item) => item.trim()).filter((item) => item !== "");
}

/** `nvidia0`, `nvidia1`, …; `nvidiactl` and its like control the driver and are no devices. */
function deviceOrdinals(names: readonly string[]): string[] {
  return names.map((name) => /^nvidia(\d+)$/.exec(name)?.[1])
    .filter((ordinal) => ordinal !== undefined)
    .sort((a, b) => Number(a) - Number(b));
}

function named(selectors: readonly string[], source: string): DetectedDevices {
  const twice = selectors.find((selector, index) => selectors.indexOf(selector) !== index);
  if (twice !== undefined) {
    throw new ConfigError(`${source} names device ${twice} twice; each worker needs its own`);
  }
  return { selectors, source, isFound: false };
}
