/**
 * The command line: reads the arguments, loads the one command they name and turns its outcome into an
 * exit code. It holds no behaviour of its own; commands call into the other folders.
 */

import { suggestion } from "../nearest.ts";
import { BundleError, ConfigError, ServerError } from "../errors.ts";
import { Logger } from "../log.ts";
import { buildInfo } from "../standalone.ts";
import { type CommandOutput, EXIT } from "./command.ts";
import { isOn, parseFlags } from "./flags.ts";
import { commandHelp, COMMON_FLAGS, programHelp } from "./help.ts";
import { type CommandEntry, COMMANDS, DEFAULT_COMMAND } from "./roles.ts";

export type { Command, CommandOutput } from "./command.ts";
export { EXIT } from "./command.ts";

const PROGRAM = "reactantserver";

/**
 * Runs the program with these arguments (the program's own name left out) and resolves to its exit
 * code. Never rejects: what the operator did wrong is one line, a defect is logged in full.
 */
export async function main(
  args: readonly string[],
  output: CommandOutput = standardOutput,
): Promise<number> {
  try {
    return await dispatch(args, output);
  } catch (error) {
    if (error instanceof ConfigError) {
      output.complain(`${PROGRAM}: ${oneLine(error.message)}`);
      return EXIT.usage;
    }
    if (error instanceof ServerError || error instanceof BundleError) {
      output.complain(`${PROGRAM}: ${oneLine(error.message)}`);
      return EXIT.failure;
    }
    new Logger({ write: output.complain }).error("Unexpected failure", { error });
    return EXIT.failure;
  }
}

async function dispatch(args: readonly string[], output: CommandOutput): Promise<number> {
  const [first, ...rest] = args;
  if (args.length === 1 && (first === "--help" || first === "-h" || first === "help")) {
    output.print(programHelp(PROGRAM, COMMANDS));
    return EXIT.ok;
  }
  if (first === "help") return await dispatch([...rest, "--help"], output);
  const isNamed = first !== undefined && !first.startsWith("-");
  const entry = findCommand(isNamed ? first : DEFAULT_COMMAND);
  const { command } = await entry.load();
  const flags = parseFlags(isNamed ? rest : args, [...command.flags, ...COMMON_FLAGS]);
  if (isOn(flags, "help")) {
    output.print(commandHelp(PROGRAM, command));
    return EXIT.ok;
  }
  if (isOn(flags, "version")) {
    output.print(versionLine());
    return EXIT.ok;
  }
  return await command.run(flags, output);
}

function versionLine(): string {
  const { version, commit, kind } = buildInfo();
  return `${PROGRAM} ${version} (commit ${commit}, ${kind}, Deno ${Deno.version.deno})`;
}

function findCommand(name: string): CommandEntry {
  const entry = COMMANDS.find((command) => command.name === name);
  if (entry !== undefined) return entry;
  const names = COMMANDS.map((command) => command.name);
  throw new ConfigError(
    `Unknown command ${JSON.stringify(name)} (there are ${names.join(", ")})` +
      suggestion(name, names),
  );
}

function oneLine(message: string): string {
  return message.replaceAll(/\s*\n\s*/g, " ");
}

const standardOutput: CommandOutput = {
  print: (line) => writeLine(Deno.stdout, line),
  complain: (line) => writeLine(Deno.stderr, line),
};

function writeLine(stream: { writeSync(bytes: Uint8Array): number }, line: string): void {
  const bytes = new TextEncoder().encode(`${line}\n`);
  try {
    for (let at = 0; at < bytes.length;) at += stream.writeSync(bytes.subarray(at));
  } catch (error) {
    // The reader of a pipe may leave early (`… --help | head -1`); that is not a failure of ours.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
