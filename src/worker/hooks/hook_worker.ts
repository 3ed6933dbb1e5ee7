/**
 * Entry point of the thread that runs a hook file. It has the permissions the pool gave its sandbox,
 * takes away what hook code must not reach, evaluates the hook file and then answers one call at a time.
 *
 * The globals a hook file sees are declared in `api.d.ts`.
 */

import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { NamedTensor } from "../../tensor/mod.ts";
import { boundAllocations } from "./allocation.ts";
import { keepHeapSmall } from "./garbage.ts";
import { type Guard, makeGuard } from "./guard.ts";
import { helpers } from "./helpers/mod.ts";
import { compileHookFile } from "./hook_module.ts";
import { MetaCall, packTensors } from "./meta_call.ts";
import type { FromHookWorker, HookLoad, ToHookWorker, ToSandbox } from "./messages.ts";
import { sealRealm } from "./realm.ts";

type Hook = (inputs: NamedTensor[]) => NamedTensor[] | Promise<NamedTensor[]>;
type Run = (
  inputs: NamedTensor[],
  call: MetaCall["call"],
) => NamedTensor[] | Promise<NamedTensor[]>;
type Registered =
  | { readonly kind: "model"; readonly preprocess?: Hook; readonly postprocess?: Hook }
  | { readonly kind: "meta"; readonly run: Run };
type HookFunctionName = (ToHookWorker & { type: "call" })["hook"];

/** Between looks at whether the heap reached its limit. */
const HEAP_CHECK_MS = 50;
/** Looks between reports of the memory, at least. */
const MEMORY_REPORT_LOOKS = 20;
/** Changes that are worth a report. V8 takes its heap in pages of 256 KiB. */
const MEMORY_STEP_BYTES = 2 ** 18;
const MESSAGE_CHARACTERS = 500;

const scope = globalThis as unknown as Record<string, unknown>;
// Taken before the hook file runs, so that it cannot replace them.
const readFile = Deno.readFileSync;
const realPath = Deno.realPathSync;
const repeat = globalThis.setInterval;
const now = performance.now.bind(performance);
const cut = Function.prototype.call.bind(String.prototype.slice) as (
  text: string,
  from: number,
  to: number,
) => string;

let post: (message: FromHookWorker, transfer?: Transferable[]) => void;
let registered: Registered | undefined;
let current: MetaCall | undefined;
let guard: Guard;
/** When the call in progress is to be over. */
let endMs: number | undefined;
let isStrayReported = false;

globalThis.addEventListener("message", (event) => {
  const { port, load: options } = (event as MessageEvent<ToSandbox>).data;
  const send = port.postMessage.bind(port);
  post = (message, transfer = []) => send(message, transfer);
  port.addEventListener("message", ({ data }: MessageEvent<ToHookWorker>) => {
    if (data.type === "call") {
      endMs = now() + data.budgetMs;
      guard.schedule(() => void handle(data));
    } else guard.schedule(() => current?.answer(data));
  });
  port.start();
  void load(options);
}, { once: true });

/** Messages of thrown values, bounded: they travel to clients. */
function describe(error: unknown): string {
  let text: string;
  try {
    text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  } catch {
    text = "a value that cannot be shown";
  }
  return text.length > MESSAGE_CHARACTERS ? cut(text, 0, MESSAGE_CHARACTERS) + "…" : text;
}

/**
 * Thrown by hooks that refuse a request as its client's mistake. The private field tells it from whatever
 * a hook makes up.
 */
class InvalidArgument extends Error {
  static {
    Object.defineProperty(this.prototype, "name", { value: "InvalidArgument" });
  }
  readonly #isRefusal = true;

  static has(error: unknown): error is InvalidArgument {
    return typeof error === "object" && error !== null && #isRefusal in error;
  }
}
const isRefusal = InvalidArgument.has;

/** What the client is told of it. */
function reasonOf(refusal: InvalidArgument): string {
  const { message } = refusal;
  return typeof message === "string" ? cut(message, 0, MESSAGE_CHARACTERS) : describe(refusal);
}

function requireFunction(value: unknown, what: string): void {
  if (typeof value !== "function") throw new TypeError(`${what} must be a function`);
}

function prepareGlobals(name: string, directory: string, account: <T>(made: T) => T): void {
  const root = `${realPath(directory)}/`;
  const path = (file: unknown): string => {
    if (typeof file !== "string" || file === "" || /(^|\/)\.\.?(\/|$)|^\/|\0/.test(file)) {
      throw new TypeError(
        `bundle files are named relative to the bundle, got ${JSON.stringify(file)}`,
      );
    }
    const whole = `${directory}/${file}`;
    // Links were looked at when the hook file was loaded, and others may have come since.
    if (cut(realPath(whole), 0, root.length) !== root) {
      throw new TypeError(`${JSON.stringify(file)} is a link that leads out of the bundle`);
    }
    return whole;
  };
  const readBytes = (file: string): Uint8Array => account(readFile(path(file)));
  const decoder = new TextDecoder();
  scope.bundle = Object.freeze({
    name,
    readBytes,
    readText: (file: string): string => decoder.decode(readBytes(file)),
  });
  scope.helpers = helpers;
  scope.InvalidArgument = InvalidArgument;
  scope.register_model = (_name: string, hooks: { preprocess?: Hook; postprocess?: Hook }) => {
    if (typeof hooks !== "object" || hooks === null) {
      throw new TypeError("register_model(name, hooks): hooks must be an object");
    }
    for (const key of ["preprocess", "postprocess"] as const) {
      if (hooks[key] !== undefined) requireFunction(hooks[key], `register_model: ${key}`);
    }
    registered = {
      kind: "model",
      preprocess: hooks.preprocess,
      postprocess: hooks.postprocess,
    };
  };
  scope.register_meta = (_name: string, run: Run) => {
    requireFunction(run, "register_meta(name, run): run");
    registered = { kind: "meta", run };
  };
}

/**
 * Reports what ends this thread. Where the heap reaches its limit V8 ends the running code, uncatchably,
 * and raises the limit so that the process survives: a raised limit is the sign.
 */
function watchThread(memoryBytes: number, collect: () => void): void {
  const heapLimit = getHeapStatistics().heap_size_limit;
  // Buffers that native code made are only seen once they are there; a refused one is garbage by now.
  const isOver = () => getHeapStatistics().external_memory > 2 * memoryBytes;
  const usedBytes = () => getHeapStatistics().used_heap_size;
  const collectIfWorthwhile = keepHeapSmall({ usedBytes, collect, now });
  const report = makeMemoryReport();
  repeat(() => {
    if (getHeapStatistics().heap_size_limit > heapLimit) return post({ type: "exhausted" });
    if (endMs === undefined) collectIfWorthwhile();
    report();
    if (!isOver()) return;
    collect();
    if (isOver()) post({ type: "exhausted" });
  }, HEAP_CHECK_MS);
  const take = (event: Event, error: unknown) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    guard.schedule(() => reportStray(error));
  };
  globalThis.addEventListener("error", (event) => take(event, (event as ErrorEvent).error));
  globalThis.addEventListener(
    "unhandledrejection",
    (event) => take(event, (event as PromiseRejectionEvent).reason),
  );
}

/** To be called at every look; tells the pool what the thread holds when that changed. */
function makeMemoryReport(): () => void {
  let looks = 0;
  let toldHeap = -Infinity;
  let toldExternal = -Infinity;
  return () => {
    if (looks++ % MEMORY_REPORT_LOOKS > 0) return;
    const { total_heap_size: heapBytes, external_memory: externalBytes } = getHeapStatistics();
    const changed = Math.abs(heapBytes - toldHeap) >= MEMORY_STEP_BYTES ||
      Math.abs(externalBytes - toldExternal) >= MEMORY_STEP_BYTES;
    if (!changed) return;
    toldHeap = heapBytes;
    toldExternal = externalBytes;
    post({ type: "memory", heapBytes, externalBytes });
  };
}

/** Reports an error that nobody caught, in the guard: what describes it may be the hook's own code. */
function reportStray(error: unknown): void {
  if (isStrayReported) return;
  isStrayReported = true;
  post({ type: "stray", message: describe(error) });
}

/**
 * A full garbage collection, which V8 offers to those who ask before the context is made. The flag is the
 * whole process's and stays: taken back, it would be missing for a thread that starts at the same moment.
 * No thread's own context has `gc` for it, they are made from Deno's snapshot.
 */
function makeCollector(): () => void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  return () => collect();
}

async function load(options: HookLoad): Promise<void> {
  try {
    Deno.permissions.revokeSync({ name: "read", path: options.codeFolder });
    const collect = makeCollector();
    watchThread(options.memoryBytes, collect);
    const account = boundAllocations({
      limitBytes: options.memoryBytes,
      heldBytes: () => getHeapStatistics().external_memory,
      collect,
    });
    guard = makeGuard({
      budgetMs: () => endMs === undefined ? options.callTimeoutMs : endMs - now(),
      onTimeout: () => post({ type: "overrun" }),
      onError: reportStray,
    });
    const evaluate = await compileHookFile(options.source);
    sealRealm({
      guard,
      grants: options.grants,
      log: (level, text) => post({ type: "output", level, text }),
    });
    prepareGlobals(options.name, options.directory, account);
    endMs = now() + options.loadTimeoutMs;
    await new Promise<void>((resolve, reject) =>
      guard.schedule(() => void evaluate().then(resolve, reject))
    );
    endMs = undefined;
    if (registered?.kind !== options.kind) {
      const wanted = options.kind === "meta"
        ? "register_meta(name, run)"
        : "register_model(name, hooks)";
      throw new Error(`the hook file did not call ${wanted}`);
    }
    post({
      type: "loaded",
      preprocess: registered.kind === "model" && registered.preprocess !== undefined,
      postprocess: registered.kind === "model" && registered.postprocess !== undefined,
    });
  } catch (error) {
    post({ type: "failed", message: describe(error) });
  }
}

async function handle({ id, hook, inputs }: ToHookWorker & { type: "call" }): Promise<void> {
  const meta = hook === "run" ? current = new MetaCall(id, post) : undefined;
  let isOutput = false;
  try {
    const functions = registered as unknown as Record<HookFunctionName, Run>;
    const outputs = await functions[hook]([...inputs], meta?.call as MetaCall["call"]);
    isOutput = true;
    const { tensors, transfer } = packTensors(outputs);
    post({ type: "result", id, outputs: tensors }, transfer);
  } catch (error) {
    if (isRefusal(error)) post({ type: "error", id, message: reasonOf(error), isRefusal: true });
    else {
      const sequence = meta?.sequenceOf(error);
      post({ type: "error", id, message: describe(error), sequence, isOutput });
    }
  } finally {
    endMs = undefined;
    if (current === meta) current = undefined;
  }
}
