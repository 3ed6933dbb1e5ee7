/**
 * Structured logging: one line per event, to standard error. `text` for people, `json` for machines
 * (one object per line; the supervisor passes such lines on unchanged).
 */

export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFormat = "text" | "json";
export type LogFields = Record<string, unknown>;

const ORDER: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

export interface LoggerOptions {
  level?: LogLevel;
  format?: LogFormat;
  /** Receives each finished line, without its newline. Default: standard error. */
  write?: (line: string) => void;
}

/** Writes events at or above its level; cheap to derive with `with`. */
export class Logger {
  readonly #level: LogLevel;
  readonly #format: LogFormat;
  readonly #write: (line: string) => void;
  readonly #fields: LogFields;

  constructor(options: LoggerOptions = {}, fields: LogFields = {}) {
    this.#level = options.level ?? "info";
    this.#format = options.format ?? "text";
    this.#write = options.write ?? writeStderr;
    this.#fields = fields;
  }

  /** The same logger with `fields` on every line. */
  with(fields: LogFields): Logger {
    return new Logger(
      { level: this.#level, format: this.#format, write: this.#write },
      { ...this.#fields, ...fields },
    );
  }

  /** The same logger with its lines, without their newlines, going elsewhere. */
  to(write: (line: string) => void): Logger {
    return new Logger({ level: this.#level, format: this.#format, write }, this.#fields);
  }

  debug(message: string, fields?: LogFields): void {
    this.#emit("debug", message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#emit("info", message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#emit("warn", message, fields);
  }

  /** An `error` field that is an `Error` is written with its stack and its chain of causes. */
  error(message: string, fields?: LogFields): void {
    this.#emit("error", message, fields);
  }

  #emit(level: LogLevel, message: string, fields: LogFields = {}): void {
    if (ORDER[level] < ORDER[this.#level]) return;
    const time = new Date().toISOString();
    const all = { ...this.#fields, ...fields };
    if (this.#format === "json") {
      this.#write(JSON.stringify({ time, level, message, ...mapValues(all, plainValue) }));
      return;
    }
    const tail = Object.entries(all).map(([key, value]) => ` ${key}=${textValue(value)}`).join("");
    this.#write(
      `${time} ${level.toUpperCase().padEnd(5)} ${message.replaceAll("\n", "\\n")}${tail}`,
    );
  }
}

/** A logger that drops everything. */
export const silentLogger = new Logger({ level: "error", write: () => {} });

const encoder = new TextEncoder();

function writeStderr(line: string): void {
  const bytes = encoder.encode(line + "\n");
  try {
    for (let at = 0; at < bytes.length;) at += Deno.stderr.writeSync(bytes.subarray(at));
  } catch {
    // A closed or full standard error must not take the server down; there is nowhere left to say so.
  }
}

function mapValues(fields: LogFields, map: (value: unknown) => unknown): LogFields {
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, map(value)]));
}

function plainValue(value: unknown): unknown {
  if (value instanceof Error) return describeError(value);
  if (typeof value === "bigint") return value.toString();
  return value;
}

function textValue(value: unknown): string {
  const plain = plainValue(value);
  if (typeof plain === "string") return /^[\w./:@+-]+$/.test(plain) ? plain : JSON.stringify(plain);
  return JSON.stringify(plain) ?? "undefined";
}

function describeError(error: Error): string {
  let text = error.stack ?? `${error.name}: ${error.message}`;
  for (let cause = error.cause, depth = 0; cause !== undefined && depth < 5; depth++) {
    text += `\ncaused by: ${cause instanceof Error ? cause.stack ?? cause.message : String(cause)}`;
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return text;
}
