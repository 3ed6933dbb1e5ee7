/** `ctl repack` and `ctl compact`. */

import { ControlService, GatewayControlService } from "../../protocol/mod.ts";
import { type CommandOutput, EXIT } from "../command.ts";
import type { ParsedFlags } from "../flags.ts";
import { formatBytes } from "../table.ts";
import { onGateway } from "./ctl_changes.ts";
import { type CtlTarget, positiveSeconds, printJson, wantsJson } from "./ctl_target.ts";

const DEFAULT_WAIT_SECONDS = 30;
/** Compaction loads models again, which may take minutes. */
const COMPACT_SECONDS = 300;

/** `ctl repack`: fails when it was waited for and did not come. */
export async function repack(
  target: CtlTarget,
  _args: readonly string[],
  flags: ParsedFlags,
  output: CommandOutput,
): Promise<number> {
  const waitSeconds = positiveSeconds(flags, "wait-seconds", DEFAULT_WAIT_SECONDS);
  const method = GatewayControlService.method.repack;
  const answer = await onGateway(
    target,
    () => target.call(method, { waitSeconds }, waitSeconds),
  );
  const isGood = answer.completed || waitSeconds === 0;
  if (wantsJson(flags)) printJson(method.output, answer, output);
  else if (answer.completed) {
    output.print(
      `repacked after ${answer.waitedSeconds.toFixed(1)} s: ` +
        `${answer.repack?.lastModelsPlaced ?? 0n} models placed, ` +
        `${answer.repack?.lastModelsMoved ?? 0n} moved`,
    );
  } else if (isGood) output.print(`repack ${answer.sequence} is asked for`);
  else {
    output.complain(
      `repack ${answer.sequence} is not done after ${answer.waitedSeconds.toFixed(1)} s; ` +
        "it comes with the next poll of the workers: see ctl status, or give --wait-seconds more",
    );
  }
  if (!wantsJson(flags)) {
    for (const warning of answer.warnings) output.complain(`warning: ${warning}`);
  }
  return isGood ? EXIT.ok : EXIT.failure;
}

/** `ctl compact [MODEL…]`, on a worker or, through a gateway, on all of them. */
export async function compact(
  target: CtlTarget,
  reloadModels: readonly string[],
  flags: ParsedFlags,
  output: CommandOutput,
): Promise<number> {
  const method = ControlService.method.compactMemory;
  const answer = await target.call(method, { reloadModels: [...reloadModels] }, COMPACT_SECONDS);
  if (wantsJson(flags)) printJson(method.output, answer, output);
  else {
    // A gateway adds up the first figure and leaves the second at 0.
    const bytes = Number(answer.residentBytesAfter);
    const resident = bytes > 0 ? `, ${formatBytes(bytes)} on the device now` : "";
    output.print(`compacted: ${answer.reloadedModels} models loaded again${resident}`);
  }
  return EXIT.ok;
}
