/** The supervisor's own lines: `[supervisor] …`, in words or as JSON objects like those of its children. */

import type { LogConfig } from "../config/mod.ts";
import type { ChildLog } from "./child.ts";
import type { LogSink } from "./log_sink.ts";

/** The prefix of the supervisor's own lines. */
export const SUPERVISOR_PREFIX = "[supervisor] ";

/** Writes to a sink. In words a line is the message alone; times are those of the collector. */
export class SupervisorLog implements ChildLog {
  readonly #sink: LogSink;
  readonly #format: LogConfig["format"];
  readonly #isQuiet: boolean;

  constructor(sink: LogSink, { format, level }: LogConfig) {
    this.#sink = sink;
    this.#format = format;
    this.#isQuiet = level === "warn" || level === "error";
  }

  info(message: string, fields?: Record<string, unknown>): void {
    if (!this.#isQuiet) this.#write("info", message, message, fields);
  }

  warn(message: string, fields?: Record<string, unknown>): void {
    this.#write("warn", message, `warning: ${message}`, fields);
  }

  error(message: string, fields?: Record<string, unknown>): void {
    this.#write("error", message, message, fields);
  }

  #write(level: string, message: string, words: string, fields: Record<string, unknown> = {}) {
    const line = this.#format === "json"
      ? JSON.stringify({ time: new Date().toISOString(), level, message, ...fields })
      : words.replaceAll("\n", " ");
    // Its few lines never wait: a full queue takes them all the same, or drops them with the rest.
    void this.#sink.line(SUPERVISOR_PREFIX, line);
  }
}
