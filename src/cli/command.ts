/** What a sub-command is. Each lives in `commands/<name>.ts`, which exports one as `command`. */

import type { FlagSpec, ParsedFlags } from "./flags.ts";

/** Named exit codes of the program. */
export const EXIT = {
  ok: 0,
  /** Something went wrong while running. */
  failure: 1,
  /** The command line, a variable or a configuration file is wrong; trying again cannot help. */
  usage: 2,
} as const;

/** Where a command writes its results; errors and logs go to standard error. */
export interface CommandOutput {
  /** One line of output, without its newline. */
  print(line: string): void;
  /** One line for standard error. */
  complain(line: string): void;
}

/** One sub-command. */
export interface Command {
  readonly name: string;
  /** What follows the program's name on the command line, for example `bundle inspect PATH`. */
  readonly usage: string;
  readonly summary: string;
  /** Paragraphs for `--help`, after the summary. */
  readonly details?: string;
  readonly flags: readonly FlagSpec[];
  /**
   * Runs to the end and resolves to the exit code. A `ConfigError` thrown here ends the program with
   * `EXIT.usage` and one line; a `ServerError` or `BundleError` with `EXIT.failure` and one line.
   */
  run(flags: ParsedFlags, output: CommandOutput): Promise<number>;
}
