/**
 * What remains when the supervisor is killed. Children leave by themselves when their line to it ends,
 * but one that is stopped, or whose event loop stands still, cannot; and nobody removes the node's
 * files. A tiny shell waits for the end of a pipe, gives the children a few seconds and then kills those
 * that are still there.
 *
 * Not the kernel's parent-death signal: it is for the death of the thread that forked, SIGKILL would
 * leave no time for calls in progress, and a milder signal does not reach a process that is stuck.
 */

import { messageOf } from "../errors.ts";
import { startTime } from "./processes.ts";

/** How long orphans may take to leave. More than a worker gives its calls in progress. */
export const ORPHAN_SECONDS = 6;

/**
 * Lines on standard input: `add PID START`, `drop PID`, `end`. A process is its id and its start time
 * (field 22 of /proc/PID/stat), so that an id which was given to another process is left alone.
 */
const SCRIPT = `
trap '' INT TERM HUP QUIT
seconds=$1 folder=$2 list=
alive() {
  pid=\${1%%:*}
  { read -r stat < "/proc/$pid/stat"; } 2>/dev/null || return 1
  want=\${1#*:} stat=\${stat##*) }
  set -- $stat
  shift 19
  [ "$1" = "$want" ]
}
while read -r word pid start; do
  case $word in
    add) list="$list $pid:$start" ;;
    drop) kept=; for one in $list; do case $one in "$pid":*) ;; *) kept="$kept $one" ;; esac; done; list=$kept ;;
    end) exit 0 ;;
  esac
done
while [ "$seconds" -gt 0 ]; do
  any=; for one in $list; do alive "$one" && any=1; done
  [ -n "$any" ] || break
  sleep 1
  seconds=$((seconds - 1))
done
for one in $list; do alive "$one" && kill -KILL "\${one%%:*}"; done
rm -rf "$folder"
`;

/** The guard of one supervisor. Disposing it calls it off. */
export class Guard implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  #written: Promise<void> = Promise.resolve();

  private constructor(process: Deno.ChildProcess) {
    this.#process = process;
    this.#input = process.stdin.getWriter();
  }

  /**
   * Starts it. @param folder removed when the supervisor dies
   * @throws {Error} when there is no shell
   */
  static start(folder: string, orphanSeconds: number = ORPHAN_SECONDS): Guard {
    return new Guard(
      new Deno.Command("/bin/sh", {
        args: ["-c", SCRIPT, "reactantserver-guard", String(orphanSeconds), folder],
        stdin: "piped",
        stdout: "null",
        stderr: "null",
      }).spawn(),
    );
  }

  /** The guard's own process. */
  get pid(): number {
    return this.#process.pid;
  }

  /** A child was started. */
  watch(pid: number): void {
    const start = startTime(pid);
    if (start !== undefined) this.#send(`add ${pid} ${start}`);
  }

  /** A child has ended. */
  forget(pid: number): void {
    this.#send(`drop ${pid}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#send("end");
    await this.#written;
    await this.#input.close().catch(() => {
      // It is gone already.
    });
    await this.#process.status;
  }

  #send(line: string): void {
    const bytes = new TextEncoder().encode(`${line}\n`);
    this.#written = this.#written.then(() => this.#input.write(bytes)).catch(() => {
      // Somebody killed it. Children still leave by themselves.
    });
  }
}

/** Starts a guard where there is a shell; says what is missing where there is none. */
export function startGuard(folder: string, onMissing: (reason: string) => void): Guard | undefined {
  try {
    return Guard.start(folder);
  } catch (error) {
    onMissing(messageOf(error));
    return undefined;
  }
}
