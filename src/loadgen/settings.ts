/** Every setting of the load generator: variable, flag, default, range and help in one table. */

import { ConfigError } from "../errors.ts";
import { parseBoolean } from "../config/mod.ts";

/** One setting; `read` turns text into its value or says what it should be. */
export interface Setting<T> {
  /** Without its dashes. */
  readonly flag: string;
  readonly variable: string;
  readonly default: T;
  /** As `--help` shows it; an empty one is not shown. */
  readonly shownDefault: string;
  readonly placeholder: string;
  readonly isSwitch: boolean;
  readonly group: string;
  readonly help: string;
  /** @throws {Expected} saying what the text should have been */
  read(text: string): T;
}

/** What a value should have been. */
class Expected extends Error {}

function text(
  flag: string,
  value: string,
  group: string,
  help: string,
  placeholder = "TEXT",
): Setting<string> {
  return {
    ...names(flag, group, help, placeholder),
    default: value,
    shownDefault: value,
    read: (given) => given.trim(),
  };
}

function list(flag: string, group: string, help: string): Setting<readonly string[]> {
  return {
    ...names(flag, group, help, "A,B,…"),
    default: [],
    shownDefault: "",
    read: (given) => given.split(",").map((part) => part.trim()).filter((part) => part !== ""),
  };
}

function number(
  flag: string,
  value: number,
  range: { readonly min: number; readonly max?: number; readonly isWhole?: boolean },
  group: string,
  help: string,
): Setting<number> {
  const { min, max = Number.MAX_SAFE_INTEGER, isWhole = false } = range;
  return {
    ...names(flag, group, help, "N"),
    default: value,
    shownDefault: String(value),
    read(given) {
      const found = Number(given);
      const isRight = given.trim() !== "" && found >= min && found <= max &&
        (!isWhole || Number.isInteger(found));
      if (isRight) return found;
      const upper = range.max === undefined ? "" : ` and at most ${max}`;
      throw new Expected(`a ${isWhole ? "whole " : ""}number, at least ${min}${upper}`);
    },
  };
}

function choice<T extends string>(
  flag: string,
  value: T,
  choices: readonly T[],
  group: string,
  help: string,
): Setting<T> {
  return {
    ...names(flag, group, help, choices.join("|")),
    default: value,
    shownDefault: value,
    read(given) {
      const found = choices.find((known) => known === given.trim().toLowerCase());
      if (found !== undefined) return found;
      throw new Expected(`one of ${choices.join(", ")}`);
    },
  };
}

function onOff(flag: string, value: boolean, group: string, help: string): Setting<boolean> {
  return {
    ...names(flag, group, help, ""),
    isSwitch: true,
    default: value,
    shownDefault: String(value),
    read(given) {
      const found = parseBoolean(given);
      if (found !== undefined) return found;
      throw new Expected("true or false");
    },
  };
}

function names(flag: string, group: string, help: string, placeholder: string) {
  const variable = `LOADGEN_${flag.toUpperCase().replaceAll("-", "_")}`;
  return { flag, variable, group, help, placeholder, isSwitch: false };
}

/** Ten years: longer times cannot be told from forever, and nanoseconds of them still fit 64 bits. */
const LONGEST_SECONDS = 10 * 366 * 86_400;
const seconds = (min: number) => ({ min, max: LONGEST_SECONDS });

const whole = (min: number, max?: number) => ({ min, max, isWhole: true });

/** The table. Variable names follow from the flags. */
export const LOADGEN_SETTINGS = {
  gateway: text("gateway", "grpc://gateway:8001", "target", "server or gateway to load"),
  metrics: text(
    "metrics",
    "",
    "target",
    "metrics page to watch; default: port 8002 of the same host; `off`: none",
  ),
  modelRepo: text(
    "model-repo",
    "",
    "target",
    "folder of bundles to take shapes and goldens from; default: what the server says, and " +
      "/var/lib/reactantserver/models when it says nothing",
    "DIR",
  ),
  models: list("models", "target", "only these, each with an optional weight: `a=3,b`"),
  skipInternal: onOff("skip-internal", true, "target", "leave out models that metas call"),
  connections: number(
    "connections",
    0,
    whole(0, 1024),
    "target",
    "connections at most, opened as the server's stream limit demands; 0: as the concurrency needs",
  ),
  concurrency: number(
    "concurrency",
    32,
    whole(1, 65_536),
    "load",
    "requests in flight; in an open loop the most there may be",
  ),
  threads: number(
    "threads",
    1,
    whole(1, 64),
    "load",
    "threads that encode, send and compare, for large tensors and processors to spare; each has " +
      "connections, memory and first answers of its own",
  ),
  rate: number(
    "rate",
    0,
    { min: 0, max: 1e6 },
    "load",
    "requests per second, whatever the answers do (open loop); 0: as fast as answers come",
  ),
  arrivals: choice(
    "arrivals",
    "poisson",
    ["poisson", "constant"],
    "load",
    "how an open loop spaces requests",
  ),
  durationSeconds: number("duration-seconds", 3600, seconds(0.1), "load", "how long"),
  warmup: onOff("warmup", true, "load", "first one request per model and batch size, in turn"),
  warmupDeadline: number(
    "warmup-deadline",
    300,
    seconds(0.1),
    "load",
    "seconds each of those may take",
  ),
  batchMode: choice(
    "batch-mode",
    "off",
    ["off", "rows", "burst", "both"],
    "load",
    "rows: requests of several rows, of the compiled sizes; burst: one model several times running",
  ),
  burstK: number("burst-k", 8, whole(1), "load", "requests of one model in a burst"),
  sweepEvery: number(
    "sweep-every",
    4,
    whole(0),
    "load",
    "every n-th pick goes round the models in turn; 0: all are drawn by weight",
  ),
  transport: choice(
    "transport",
    "tcp",
    ["tcp", "shm", "mixed"],
    "load",
    "tensors in the message, in shared memory, or every second request each",
  ),
  shmOutputs: onOff("shm-outputs", true, "load", "outputs through shared memory too"),
  data: choice("data", "zeros", ["zeros", "random"], "load", "what inputs hold"),
  seed: number("seed", 1, whole(0), "load", "of everything that is drawn"),
  deadlineSeconds: number(
    "deadline-seconds",
    0,
    seconds(0),
    "load",
    "deadline of each request, past which failing is expected; 0: 10 s, and it is a failure",
  ),
  rampStepSeconds: number(
    "ramp-step-seconds",
    0,
    seconds(0),
    "ramp",
    "raise the concurrency this often until requests are shed; 0: no ramp",
  ),
  rampStart: number("ramp-start", 4, whole(1, 65_536), "ramp", "first concurrency"),
  rampFactor: number("ramp-factor", 2, { min: 1.01, max: 100 }, "ramp", "growth at each step"),
  rampMax: number("ramp-max", 512, whole(1, 65_536), "ramp", "last concurrency"),
  expect: choice(
    "expect",
    "none",
    ["none", "equal", "golden"],
    "verdict",
    "check answers: against the first one to the same request, or against bundles' goldens",
  ),
  tolerance: number(
    "tolerance",
    1e-5,
    { min: 0, max: 1 },
    "verdict",
    "how far floating-point answers may be from the first one, relative and absolute",
  ),
  minOkPerModel: number(
    "min-ok-per-model",
    1,
    whole(0),
    "verdict",
    "successes each model needs; not with a deadline",
  ),
  stallWindows: number(
    "stall-windows",
    4,
    whole(0),
    "verdict",
    "report intervals without an answer, while requests wait, before giving up; 0: never",
  ),
  reportSeconds: number("report-seconds", 30, seconds(0.1), "output", "time between report lines"),
  json: text(
    "json",
    "",
    "output",
    "write the result as JSON to this file; `-`: standard output",
    "FILE",
  ),
  progress: onOff("progress", true, "output", "a live line, when standard error is a terminal"),
} as const;

/** Values of all settings. */
export type LoadgenSettings = {
  readonly [Key in keyof typeof LOADGEN_SETTINGS]: (typeof LOADGEN_SETTINGS)[Key] extends
    Setting<infer T> ? T : never;
};

/** Where `readSettings` looks. */
export interface SettingSources {
  /** A flag's value as text, if it was given. */
  readonly flag: (name: string) => string | undefined;
  readonly variable: (name: string) => string | undefined;
}

/**
 * Values from flags, else variables, else defaults.
 * @throws {ConfigError} naming the flag or variable, the value and what it should be
 */
export function readSettings(sources: SettingSources): LoadgenSettings {
  const values = Object.entries(LOADGEN_SETTINGS).map(([key, setting]) => {
    const flag = sources.flag(setting.flag);
    const variable = sources.variable(setting.variable);
    const given = flag ?? (variable === "" ? undefined : variable);
    if (given === undefined) return [key, setting.default];
    try {
      return [key, setting.read(given)];
    } catch (error) {
      if (!(error instanceof Expected)) throw error;
      const name = flag === undefined ? setting.variable : `--${setting.flag}`;
      throw new ConfigError(`${name} must be ${error.message}, got ${JSON.stringify(given)}`);
    }
  });
  const settings = Object.fromEntries(values) as LoadgenSettings;
  checkTogether(settings);
  return settings;
}

function checkTogether(settings: LoadgenSettings): void {
  if (settings.rampStepSeconds > 0 && settings.rate > 0) {
    throw new ConfigError(
      "--ramp-step-seconds and --rate cannot be combined: a ramp raises the concurrency of a " +
        "closed loop; leave one of them out",
    );
  }
  if (settings.rampStepSeconds > 0 && settings.rampMax < settings.rampStart) {
    throw new ConfigError(
      `--ramp-max must be at least --ramp-start, got ${settings.rampMax} and ${settings.rampStart}`,
    );
  }
}
