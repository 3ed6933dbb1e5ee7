/**
 * Entry point of a hook's Web Worker, which has the permissions the pool gave it and one job: to start the
 * thread that runs the hook file. That thread inherits the permissions and, unlike a Web Worker, has a
 * bound on its JavaScript heap; without one a heap that grows too far aborts the whole process. The pool
 * and the thread talk through a port of their own, so nothing but lost threads is heard of here, and
 * ending this worker ends the thread.
 */

import { Worker as Thread } from "node:worker_threads";
import type { FromSandbox, ToSandbox } from "./messages.ts";

const scope = globalThis as unknown as {
  onmessage: ((event: MessageEvent<ToSandbox>) => void) | null;
  postMessage(message: FromSandbox): void;
};

const MEBIBYTE = 2 ** 20;
/** V8's own default; a smaller one would collect more often for no gain. */
const YOUNG_GENERATION_MIB = 48;
/**
 * What takes the types out of a hook file goes down one call per level of its nesting, of some 2.6 KiB at
 * most (measured), and where the stack ends it ends the process. A character opens one level at most. All of
 * it is address space only: JavaScript's own bound on recursion is V8's and stays where it is.
 */
const STACK_BYTES_PER_CHARACTER = 4096;
/** Beyond it files are looked through for what could be nested too deeply: see `hook_module.ts`. */
const MAX_STACK_MIB = 1024;
const MIN_STACK_MIB = 8;

scope.onmessage = ({ data }) => {
  const thread = new Thread(new URL(data.thread), {
    // Else it is copied from here, which at a terminal asks for a permission.
    env: {},
    resourceLimits: {
      maxOldGenerationSizeMb: Math.max(16, Math.ceil(data.load.memoryBytes / MEBIBYTE)),
      maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB,
      stackSizeMb: Math.min(
        MAX_STACK_MIB,
        MIN_STACK_MIB + data.load.source.length * STACK_BYTES_PER_CHARACTER / MEBIBYTE,
      ),
    },
  });
  // Nothing reads these; kept flowing, they hold nothing.
  thread.stdout.resume();
  thread.stderr.resume();
  let reason = "its thread left";
  let isExhausted = false;
  thread.on("error", (error: Error & { code?: string }) => {
    isExhausted = error.code === "ERR_WORKER_OUT_OF_MEMORY";
    reason = String(error.message).slice(0, 500);
  });
  thread.on("exit", () => scope.postMessage({ type: "ended", reason, isExhausted }));
  // Node's types know only ports of their own kind.
  thread.postMessage(data, [data.port as unknown as ArrayBuffer]);
  scope.postMessage({ type: "started", thread: thread.threadId });
};
