import { ConfigError, InvalidArgumentError, messageOf } from "../../errors.ts";
import {
  DEFAULT_REPOSITORY,
  LOADGEN_SETTINGS,
  readSettings,
  runLoadgen,
  runProbe,
  type Setting,
} from "../../loadgen/mod.ts";
import { Logger } from "../../log.ts";
import { suggestion } from "../../nearest.ts";
import { onStopSignals } from "../../stop_signals.ts";
import type { Command, CommandOutput } from "../command.ts";
import { type FlagSpec, lastValue, type ParsedFlags } from "../flags.ts";

/** Loads a server or gateway and reports how it bears it. */
export const command: Command = {
  name: "loadgen",
  usage: "loadgen [probe MODEL] [flags]",
  summary: "Sends requests to a server or gateway for a time and reports what became of them.",
  details: [
    "Shapes come from the server's metadata, or from bundles with --model-repo. Inputs are zeros unless " +
    "--data says otherwise. A closed loop keeps --concurrency requests in flight; with --rate it is an " +
    "open loop, and latencies count from when a request was due, not from when it could be sent.",
    "probe MODEL sends one request of zeros for each compiled shape of a model, largest first; it takes " +
    "--gateway, --model-repo and --probe-deadline, and exits with 1 when one of them fails.",
    "Exit codes: 0 all well, 1 requests failed, 2 wrong usage or no model to load, 3 a model had too " +
    "few successes or all of them had none, 4 answers stopped coming. SIGINT, SIGTERM and SIGHUP end the " +
    "load early, with its verdict; a second one does not wait for requests in flight.",
  ].join("\n\n"),
  flags: [
    ...Object.values(LOADGEN_SETTINGS).map(flagOf),
    {
      name: "probe-deadline",
      kind: "value",
      placeholder: "N",
      help: "seconds for each request of a probe",
      variable: "PROBE_DEADLINE",
      default: "300",
      group: "probe",
    },
  ],
  async run(flags, output) {
    if (flags.positionals.length > 0) return await probe(flags, output);
    const settings = readSettings({
      flag: (name) => lastValue(flags, name),
      variable: (name) => Deno.env.get(name),
    });
    warnOfUnknownVariables(output);
    // Not found out after an hour.
    if (settings.json !== "" && settings.json !== "-") touch(settings.json);
    const isJsonPrinted = settings.json === "-";
    const live = settings.progress ? liveLine() : undefined;
    const show = isJsonPrinted ? output.complain : output.print;
    const print = (line: string) => {
      live?.clear();
      show(line);
    };
    const [stop, abandon] = [new AbortController(), new AbortController()];
    // Memory shared with the server outlives a process that just ends, so each of them is an orderly end;
    // a second one does not wait for anything.
    using _listeners = onStopSignals(() => (stop.signal.aborted ? abandon : stop).abort());
    try {
      const { exitCode, json } = await runLoadgen(settings, {
        print,
        showProgress: live?.show,
        stop: stop.signal,
        abandon: abandon.signal,
        logger: new Logger({ write: output.complain }),
      });
      await writeJson(settings.json, json, output);
      return exitCode;
    } catch (error) {
      // An address that cannot be read came from the command line.
      if (error instanceof InvalidArgumentError) throw new ConfigError(error.message);
      throw error;
    } finally {
      live?.clear();
    }
  },
};

/** A mistyped variable must not quietly mean the default. */
function warnOfUnknownVariables({ complain }: CommandOutput): void {
  const known = Object.values(LOADGEN_SETTINGS).map(({ variable }) => variable);
  for (const name of Object.keys(Deno.env.toObject()).sort()) {
    if (!name.startsWith("LOADGEN_") || known.includes(name)) continue;
    complain(`warning: unknown variable ${name}${suggestion(name, known)}`);
  }
}

/** `loadgen probe [MODEL]`; the variables are those of the original's own program. */
async function probe(flags: ParsedFlags, { print }: CommandOutput): Promise<number> {
  const [action, model = Deno.env.get("PROBE_MODEL") ?? ""] = flags.positionals;
  if (action !== "probe" || model === "" || flags.positionals.length > 2) {
    throw new ConfigError("loadgen takes flags only, or: loadgen probe MODEL --model-repo FOLDER");
  }
  const { gateway, modelRepo } = readSettings({
    flag: (name) => lastValue(flags, name),
    variable: (name) =>
      (name === "LOADGEN_GATEWAY" ? Deno.env.get("PROBE_GATEWAY") : undefined) ??
        Deno.env.get(name),
  });
  const text = lastValue(flags, "probe-deadline") ?? Deno.env.get("PROBE_DEADLINE") ?? "300";
  const deadlineSeconds = Number(text);
  if (!(deadlineSeconds > 0)) {
    throw new ConfigError(`--probe-deadline must be a number above 0, got ${JSON.stringify(text)}`);
  }
  return await runProbe({
    gateway,
    model,
    modelRepo: modelRepo === "" ? DEFAULT_REPOSITORY : modelRepo,
    deadlineSeconds,
    print,
  });
}

function flagOf(setting: Setting<unknown>): FlagSpec {
  return {
    name: setting.flag,
    kind: setting.isSwitch ? "switch" : "value",
    placeholder: setting.placeholder,
    help: setting.help,
    variable: setting.variable,
    default: setting.shownDefault === "" ? undefined : setting.shownDefault,
    group: setting.group,
  };
}

/** @throws {ConfigError} when the file cannot be written */
function touch(path: string): void {
  try {
    Deno.openSync(path, { write: true, create: true }).close();
  } catch (error) {
    throw new ConfigError(`Cannot write --json ${JSON.stringify(path)}: ${messageOf(error)}`);
  }
}

async function writeJson(
  path: string,
  json: Record<string, unknown>,
  output: CommandOutput,
): Promise<void> {
  if (path === "") return;
  const text = JSON.stringify(json, undefined, 2);
  if (path === "-") return output.print(text);
  try {
    await Deno.writeTextFile(path, `${text}\n`);
  } catch (error) {
    throw new ConfigError(`Cannot write --json ${JSON.stringify(path)}: ${messageOf(error)}`);
  }
}

/** A line of the terminal that is written over and over; `undefined` without a terminal. */
function liveLine(): { show(line: string): void; clear(): void } | undefined {
  if (!Deno.stderr.isTerminal()) return undefined;
  const encoder = new TextEncoder();
  let isShown = false;
  const write = (text: string) => {
    Deno.stderr.writeSync(encoder.encode(text));
  };
  return {
    show(line) {
      isShown = true;
      // Longer than the terminal is wide would become several lines that are not written over.
      write(`\r\x1b[K${line.slice(0, 100)}`);
    },
    clear() {
      if (isShown) write("\r\x1b[K");
      isShown = false;
    },
  };
}
