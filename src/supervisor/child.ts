/**
 * One child over all its runs: started, watched, started again. States of a run: starting → listening →
 * ready ⇄ unready → stopping, as the child itself reports them; down between runs.
 */

import { messageOf } from "../errors.ts";
import type { ChildReport, ChildState } from "../parent_link.ts";
import { LogPump } from "./log_pump.ts";
import type { LogSink } from "./log_sink.ts";
import { RestartPolicy } from "./restart_policy.ts";

/** Exit code of a program whose command line, variables or files are wrong. */
export const CONFIG_EXIT_CODE = 2;
/** How long a stream of an ended child may stay open in a descendant's hands. */
const STREAM_END_MS = 2000;

/** A running process, as far as it matters here. */
export interface RunningProcess {
  readonly pid: number;
  readonly stdout: ReadableStream<Uint8Array>;
  readonly stderr: ReadableStream<Uint8Array>;
  readonly status: Promise<{ readonly code: number; readonly signal: string | null }>;
  kill(signal: Deno.Signal): void;
}

/** Why a child will not be started again. */
export type ChildEnd =
  | { readonly reason: "stopped" }
  | { readonly reason: "budget spent" }
  | { readonly reason: "configuration"; readonly message: string };

/** What a child needs of its surroundings. */
export interface ChildOptions {
  readonly name: string;
  readonly spawn: () => RunningProcess;
  readonly maxRestarts: number;
  readonly sink: LogSink;
  readonly log: ChildLog;
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  /** Resolves after a time, or earlier when the signal is aborted; never rejects. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly onStarted?: (pid: number) => void;
  readonly onEnded?: (pid: number) => void;
  /** The state has changed. */
  readonly onState?: (state: ChildState | "down") => void;
  /** Why a run ended that was not told to, where that is known and the child could not say it. */
  readonly explainEnd?: (end: { code: number; signal: string | null }) => string | undefined;
}

/** Where the supervisor's own lines go. */
export interface ChildLog {
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}

/** How a run ended. */
interface EndedRun {
  readonly code: number;
  readonly signal: string | null;
  readonly uptimeSeconds: number;
  readonly lastLine: string;
}

/** A child process and its successors. */
export class Child {
  readonly name: string;
  readonly #options: ChildOptions;
  readonly #policy: RestartPolicy;
  readonly #stopping = new AbortController();
  #process: RunningProcess | undefined;
  #state: ChildState | "down" = "down";
  #hasStarted = false;
  /** When the present run began. */
  #startedMs = 0;
  #hasLostStream = false;

  constructor(options: ChildOptions) {
    this.name = options.name;
    this.#options = options;
    this.#policy = new RestartPolicy(options.maxRestarts);
  }

  /** What it last said of itself; `down` when there is no process. */
  get state(): ChildState | "down" {
    return this.#state;
  }

  /** Whether a descendant still holds a stream of an ended run, so that a read never ends. */
  get hasLostStream(): boolean {
    return this.#hasLostStream;
  }

  /** Its process, while there is one. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Takes a report; one of an earlier run is left alone. */
  report({ pid, state }: ChildReport): void {
    if (pid !== this.#process?.pid || state === this.#state) return;
    if (state === "ready" || state === "unready") this.#hasStarted = true;
    if (state === "ready") {
      const seconds = ((this.#options.now() - this.#startedMs) / 1000).toFixed(1);
      this.#options.log.info(`${this.name} is ready (after ${seconds}s)`);
    } else if (state === "unready") {
      this.#options.log.warn(`${this.name} is not ready`);
    }
    this.#setState(state);
  }

  /** No further start; the process, if there is one, is told to leave. */
  stop(): void {
    this.#stopping.abort();
    this.#signal("SIGTERM");
  }

  /** Ends the process, if there is one, at once. */
  kill(): void {
    this.#stopping.abort();
    this.#signal("SIGKILL");
  }

  /** Runs the child, again and again, until `stop`, `kill` or an end that nothing can mend. */
  async run(): Promise<ChildEnd> {
    const { sleep, log } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const ended = await this.#runOnce();
      const uptimeSeconds = ended?.uptimeSeconds ?? 0;
      if (signal.aborted) break;
      if (ended !== undefined) {
        log.warn(
          `${this.name} exited (code=${ended.code}, signal=${ended.signal ?? "none"}, ` +
            `uptime=${uptimeSeconds.toFixed(1)}s)`,
          { child: this.name },
        );
        const cause = this.#options.explainEnd?.(ended);
        if (cause !== undefined) log.warn(cause, { child: this.name });
        // Before its first complete start it failed at what it was told. Later a busy port or a file
        // that is being replaced may look the same, and pass.
        if (ended.code === CONFIG_EXIT_CODE && !this.#hasStarted) {
          return { reason: "configuration", message: ended.lastLine };
        }
      }
      const decision = this.#policy.ended(uptimeSeconds);
      if (decision.action === "give up") {
        log.error(
          `${this.name} failed ${decision.failures} consecutive times ` +
            `(max ${this.#options.maxRestarts}); node shutting down`,
          { child: this.name },
        );
        return { reason: "budget spent" };
      }
      if (ended !== undefined) {
        log.info(`restarting ${this.name} in ${decision.delaySeconds.toFixed(1)}s`);
      }
      await sleep(decision.delaySeconds * 1000, signal);
    }
    return { reason: "stopped" };
  }

  /** One run to its end; `undefined` when it could not be started. */
  async #runOnce(): Promise<EndedRun | undefined> {
    const { spawn, sink, log, now, onStarted, onEnded } = this.#options;
    let process: RunningProcess;
    this.#startedMs = now();
    try {
      process = spawn();
    } catch (error) {
      log.error(`cannot start ${this.name}: ${messageOf(error)}`, { child: this.name });
      return undefined;
    }
    this.#process = process;
    onStarted?.(process.pid);
    log.info(`started ${this.name} (pid ${process.pid})`, { child: this.name });
    this.#setState("starting");
    const pump = new LogPump(sink, this.name);
    pump.add(process.stdout);
    pump.add(process.stderr);
    const { code, signal } = await process.status;
    const uptimeSeconds = (now() - this.#startedMs) / 1000;
    this.#process = undefined;
    onEnded?.(process.pid);
    this.#setState("down");
    if (!await pump.finish(STREAM_END_MS)) this.#hasLostStream = true;
    return { code, signal, uptimeSeconds, lastLine: pump.lastLine };
  }

  #setState(state: ChildState | "down"): void {
    this.#state = state;
    this.#options.onState?.(state);
  }

  #signal(signal: Deno.Signal): void {
    try {
      this.#process?.kill(signal);
    } catch {
      // It ended between our look and the signal.
    }
  }
}
