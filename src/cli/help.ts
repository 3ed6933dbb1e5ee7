/** The text of `--help`. */

import type { Command } from "./command.ts";
import type { FlagSpec } from "./flags.ts";

/** Flags every command has. */
export const COMMON_FLAGS: readonly FlagSpec[] = [
  { name: "help", kind: "switch", short: "h", help: "show this text" },
  { name: "version", kind: "switch", short: "V", help: "show the version" },
];

/** Help for one command: usage, what it does, and its flags by group. */
export function commandHelp(program: string, command: Command): string {
  const lines = [`Usage: ${program} ${command.usage}`, "", command.summary];
  if (command.details !== undefined) lines.push("", command.details);
  const flags = [...command.flags, ...COMMON_FLAGS];
  for (const group of new Set(flags.map((flag) => flag.group))) {
    const members = flags.filter((flag) => flag.group === group);
    lines.push("", group === undefined ? "Flags:" : `Flags (${group}):`);
    for (const flag of members) lines.push(...flagHelp(flag));
  }
  return lines.join("\n");
}

/** The list of commands. */
export function programHelp(
  program: string,
  commands: Iterable<{ readonly name: string; readonly summary: string }>,
): string {
  const rows = [...commands];
  const width = Math.max(...rows.map((row) => row.name.length));
  return [
    `Usage: ${program} [command] [flags]`,
    "",
    "Commands:",
    ...rows.map((row) => `  ${row.name.padEnd(width)}  ${row.summary}`),
    "",
    `Without a command it serves. ${program} <command> --help lists the flags of a command.`,
  ].join("\n");
}

function flagHelp(flag: FlagSpec): string[] {
  const short = flag.short === undefined ? "" : `-${flag.short}, `;
  const value = flag.kind === "switch" ? "" : ` ${flag.placeholder ?? "TEXT"}`;
  const notes = [
    flag.default === undefined ? undefined : `default ${flag.default}`,
    flag.kind === "list" ? "repeat for several" : undefined,
    flag.variable,
  ].filter((note) => note !== undefined);
  const tail = notes.length === 0 ? "" : ` (${notes.join("; ")})`;
  // A switch that may be on without being asked for can be turned off.
  const negation = flag.kind === "switch" && flag.default !== undefined ? "[no-]" : "";
  return [`  ${short}--${negation}${flag.name}${value}`, `      ${flag.help}${tail}`];
}
