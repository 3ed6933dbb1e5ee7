/** The commands there are. Only the chosen one's code is loaded. */

import type { Command } from "./command.ts";

/** A command before it is loaded. */
export interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<{ readonly command: Command }>;
}

/** The command that runs when none is named. */
export const DEFAULT_COMMAND = "serve";

/** Every command, in the order `--help` shows them. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: "serve",
    summary: "serve the models of a folder",
    load: () => import("./commands/serve.ts"),
  },
  {
    name: "bundle",
    summary: "check or describe a model bundle",
    load: () => import("./commands/bundle.ts"),
  },
  {
    name: "config",
    summary: "show the configuration and where each value comes from",
    load: () => import("./commands/config.ts"),
  },
  {
    name: "healthcheck",
    summary: "ask a running server whether it is ready",
    load: () => import("./commands/healthcheck.ts"),
  },
  {
    name: "loadgen",
    summary: "load a server or gateway and report how it bears it",
    load: () => import("./commands/loadgen.ts"),
  },
  {
    name: "ctl",
    summary: "show and change the scheduling of a running gateway or worker",
    load: () => import("./commands/ctl.ts"),
  },
  {
    name: "completion",
    summary: "print a completion script for bash, zsh or fish",
    load: () => import("./commands/completion.ts"),
  },
];
