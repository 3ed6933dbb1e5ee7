import { ConfigError } from "../../errors.ts";
import { suggestion } from "../../nearest.ts";
import type { Command, CommandOutput } from "../command.ts";
import type { ParsedFlags } from "../flags.ts";
import { setPolicy, setReplicas, setResidency } from "./ctl_changes.ts";
import { compact, repack } from "./ctl_orders.ts";
import { CTL_FLAGS, type CtlTarget, withTarget } from "./ctl_target.ts";
import { showModels, showStatus } from "./ctl_status.ts";

/** One action of `ctl`. */
interface Action {
  readonly usage: string;
  /** How many arguments it takes. */
  readonly arguments: readonly [least: number, most: number];
  run(
    target: CtlTarget,
    args: readonly string[],
    flags: ParsedFlags,
    output: CommandOutput,
  ): Promise<number>;
}

/** Every action by its name. */
export const CTL_ACTIONS: Readonly<Record<string, Action>> = {
  "status": {
    usage: "status",
    arguments: [0, 0],
    run: (target, _args, flags, output) => showStatus(target, flags, output),
  },
  "models": {
    usage: "models [MODEL...]",
    arguments: [0, Infinity],
    run: (target, args, flags, output) => showModels(target, args, flags, output),
  },
  "set-policy": { usage: "set-policy NAME=VALUE...", arguments: [1, Infinity], run: setPolicy },
  "set-replicas": {
    usage: "set-replicas MODEL COUNT|all|inherit",
    arguments: [2, 2],
    run: setReplicas,
  },
  "set-residency": {
    usage: "set-residency MODEL unpinned|system|device",
    arguments: [2, 2],
    run: setResidency,
  },
  "repack": { usage: "repack", arguments: [0, 0], run: repack },
  "compact": { usage: "compact [MODEL...]", arguments: [0, Infinity], run: compact },
};

const NAMES = Object.keys(CTL_ACTIONS);

/** Shows and changes the scheduling of a running gateway, or of a single worker. */
export const command: Command = {
  name: "ctl",
  usage: `ctl ${NAMES.join("|")} [arguments] [flags]`,
  summary: "Shows and changes how a running gateway or worker schedules its models.",
  details: [
    "status shows mode, policy, the last repack and the workers; models shows every model, or those " +
    "named. Both also work on a single worker.",
    "set-policy changes settings of lpt_packing by their names in gateway.yml. set-replicas gives a " +
    "model its own number of workers (--fill-mode and --fill-factor go with it; left out, they stay). " +
    "Both last until the gateway restarts; the files stay as they are.",
    "set-residency pins a model's weights on one worker (model_control_mode explicit). repack places " +
    "the models anew and waits for it. compact frees device memory, and loads the models named again.",
    [
      "Examples:",
      "  reactantserver ctl status",
      "  reactantserver ctl models resnet bert --json",
      "  reactantserver ctl set-policy hysteresis=0.1 default_replicas=2",
      "  reactantserver ctl set-replicas resnet all --fill-mode spread",
      "  reactantserver ctl repack --wait-seconds 60",
      "  reactantserver ctl set-residency bert device --target 127.0.0.1:8080",
    ].join("\n"),
    "Exit codes: 0 done, 1 the server refused or could not be reached, 2 wrong usage.",
  ].join("\n\n"),
  flags: CTL_FLAGS,
  run(flags, output) {
    const [name, ...args] = flags.positionals;
    const action = name === undefined ? undefined : CTL_ACTIONS[name];
    if (action === undefined) {
      throw new ConfigError(
        name === undefined
          ? `ctl takes an action: ${NAMES.join(", ")}`
          : `ctl has no action ${JSON.stringify(name)} (there are ${NAMES.join(", ")})` +
            suggestion(name, NAMES),
      );
    }
    const [least, most] = action.arguments;
    if (args.length < least || args.length > most) {
      throw new ConfigError(`Usage: reactantserver ctl ${action.usage}`);
    }
    return withTarget(flags, (target) => action.run(target, args, flags, output));
  },
};
