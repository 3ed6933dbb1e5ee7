/**
 * The hooks of one model, in sandboxed threads. A worker handles one call at a time, so a call that
 * hangs is ended by ending its worker, and nothing else is lost. The pool owns its workers; `dispose`
 * ends them all.
 */

import {
  BundleError,
  CancelledError,
  DeadlineExceededError,
  InternalError,
  InvalidArgumentError,
  type ServerError,
  UnavailableError,
} from "../../errors.ts";
import { assetUrl } from "../../standalone.ts";
import type { NamedTensor } from "../../tensor/mod.ts";
import { checkTensors, refuseEscapingLinks } from "./checks.ts";
import { EndedThreads } from "./ended_threads.ts";
import { KernelThread } from "./kernel_thread.ts";
import { type MetaServices, MetaSession } from "./meta_session.ts";
import { MemoryWatch } from "./memory_watch.ts";
import type {
  FromHookWorker,
  FromSandbox,
  HookGrants,
  HookKind,
  HookLoad,
  HookName,
  ToHookWorker,
  ToSandbox,
} from "./messages.ts";
import type { OutputLevel } from "./realm.ts";
import { CODE_FOLDER, startSandbox } from "./start_sandbox.ts";

type CallMessage = Extract<FromHookWorker, { readonly id: number }>;

/** Why a worker had to be ended. */
export type WorkerLoss = "timeout" | "memory" | "crash";

/**
 * Why a hook failed its request: it threw (whatever it was refused is thrown too), gave what it may not
 * give, had to be ended, or there was no thread for it.
 */
export type HookFailure = "error" | "output" | WorkerLoss | "start";

export interface HookPoolOptions {
  readonly model: string;
  readonly kind: HookKind;
  /** The bundle's folder: all that its hooks may read. */
  readonly directory: string;
  /** Text of the hook file. */
  readonly source: string;
  /** Workers at most; they are started as calls need them. */
  readonly size: number;
  /** Bound on one call when the request has no earlier deadline. */
  readonly callTimeoutMs: number;
  /** Bound on evaluating the hook file. */
  readonly loadTimeoutMs: number;
  /** Threads that were ended and have not gone, of this model at most; with more of them none is started. */
  readonly maxEndedThreads?: number;
  /** How long a call may go on after its caller's deadline before its worker counts as hanging. */
  readonly lateGraceMs?: number;
  /** Bound on a worker's heap, and again on its array buffers. */
  readonly memoryBytes: number;
  /** What its hooks may reach beyond their own folder; nothing by default. */
  readonly grants?: HookGrants;
  /** Told when a worker had to be ended. */
  readonly onWorkerLost?: (reason: WorkerLoss) => void;
  /** Told of every call that failed through its hook. A hook that refuses a request has not failed. */
  readonly onFailure?: (reason: HookFailure) => void;
  /** Given what hooks write to the console, in bounded lines at a bounded rate. */
  readonly onOutput?: (level: OutputLevel, text: string) => void;
}

export interface HookCallLimits {
  readonly deadlineMs?: number;
  readonly isAborted?: () => boolean;
  /** Runs the listener once, with the reason, when the caller goes away or its deadline passes. */
  readonly onAbort?: (listener: (reason: ServerError) => void) => void;
  /** Answers the caller at once, whatever is still done for it. */
  readonly giveUp?: ((reason: ServerError) => void) | undefined;
}

interface PendingCall {
  readonly hook: HookName;
  readonly inputs: readonly NamedTensor[];
  readonly limits: HookCallLimits;
  readonly services: MetaServices | undefined;
  readonly resolve: (outputs: NamedTensor[]) => void;
  readonly reject: (error: unknown) => void;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** What the threads of a model's hooks hold of memory, as of their last reports. */
export interface HookMemory {
  readonly threads: number;
  /** What V8 has taken for their JavaScript heaps, in use or not. */
  readonly heapBytes: number;
  /** Outside the heaps, for their objects: array buffers above all. */
  readonly externalBytes: number;
}

interface PoolWorker {
  /** The sandbox; ending it ends the thread inside. */
  readonly worker: Worker;
  /** The way to that thread. */
  readonly port: MessagePort;
  /** That thread, once it runs and where it can be found. */
  thread?: KernelThread;
  /** Ends the watch on its memory. */
  unwatch?: () => void;
  /** Fails its start, while it starts. */
  abort?: (error: Error) => void;
  call: PendingCall | undefined;
  callId: number;
  session: MetaSession | undefined;
  /** As of its last report. */
  heapBytes: number;
  externalBytes: number;
}

const LATE_GRACE_MS = 1000;
const MAX_ENDED_THREADS = 8;
/** Between looks at whether an ended thread has gone. */
const ROOM_LOOK_MS = 100;

/** States: open → disposed. */
export class HookPool implements Disposable {
  readonly #options: HookPoolOptions;
  readonly #idle: PoolWorker[] = [];
  readonly #busy = new Set<PoolWorker>();
  readonly #waiting: PendingCall[] = [];
  readonly #starting = new Set<PoolWorker>();
  #hooks: ReadonlySet<string> = new Set();
  /** Runs while calls wait for an ended thread to go. */
  #roomTimer: ReturnType<typeof setInterval> | undefined;
  #isDisposed = false;

  private constructor(options: HookPoolOptions) {
    this.#options = options;
  }

  /**
   * Evaluates the hook file once, in the first worker.
   * @throws {BundleError} when it fails, registers nothing, takes too long, its folder has a link that
   *   leads out of it, or too many threads of the model could not be stopped
   */
  static async open(options: HookPoolOptions): Promise<HookPool> {
    refuseEscapingLinks(options.model, options.directory);
    const pool = new HookPool(options);
    try {
      const endMs = performance.now() + options.loadTimeoutMs;
      while (!pool.#hasRoom()) {
        if (performance.now() >= endMs) throw new BundleError(options.model, pool.#unstoppable());
        await new Promise((resolve) => setTimeout(resolve, ROOM_LOOK_MS));
      }
      const first = await pool.#start();
      pool.#idle.push(first);
    } catch (error) {
      pool[Symbol.dispose]();
      throw error;
    }
    return pool;
  }

  /** Whether the hook file registered the hook; a missing one is the identity. */
  has(hook: HookName): boolean {
    return this.#hooks.has(hook);
  }

  /** What its threads hold. Those that start or were ended are not counted. */
  memory(): HookMemory {
    const threads = [...this.#idle, ...this.#busy];
    const total = (key: "heapBytes" | "externalBytes") =>
      threads.reduce((sum, thread) => sum + thread[key], 0);
    return {
      threads: threads.length,
      heapBytes: total("heapBytes"),
      externalBytes: total("externalBytes"),
    };
  }

  /**
   * Runs a hook on one request's tensors, which are copied to the worker.
   * @param services what a meta's `run` may ask for
   * @throws {InternalError} when the hook throws, gives something that is no tensor list, or its worker
   *   dies; {DeadlineExceededError} when the request's deadline passes first; {CancelledError} when
   *   its caller goes away first
   */
  call(
    hook: HookName,
    inputs: readonly NamedTensor[],
    limits: HookCallLimits = {},
    services?: MetaServices,
  ): Promise<NamedTensor[]> {
    if (this.#isDisposed) return Promise.reject(this.#unloaded());
    const { promise, resolve, reject } = Promise.withResolvers<NamedTensor[]>();
    const timer = undefined;
    const call: PendingCall = { hook, inputs, limits, services, resolve, reject, timer };
    const idle = this.#idle.pop();
    if (idle) {
      this.#run(idle, call);
    } else {
      if (limits.deadlineMs !== undefined) {
        call.timer = setTimeout(
          () => this.#giveUpWaiting(call, this.#late(hook)),
          untilMs(limits.deadlineMs),
        );
      }
      this.#waiting.push(call);
      this.#grow();
    }
    limits.onAbort?.((reason) => this.#abandon(call, reason));
    return promise;
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    clearInterval(this.#roomTimer);
    for (const worker of this.#starting) {
      this.#end(worker);
      worker.abort?.(this.#unloaded());
    }
    for (const call of this.#waiting.splice(0)) {
      clearTimeout(call.timer);
      call.reject(this.#unloaded());
    }
    for (const worker of [...this.#idle.splice(0), ...this.#busy]) {
      clearTimeout(worker.call?.timer);
      worker.call?.reject(this.#unloaded());
      worker.session?.[Symbol.dispose]();
      this.#end(worker);
    }
    this.#busy.clear();
  }

  /** Ends a worker; one that is not at rest may be in code that cannot be ended. */
  #end({ worker, port, thread, call, unwatch }: PoolWorker, isAtRest = call === undefined): void {
    unwatch?.();
    port.onmessage = null;
    port.close();
    worker.terminate();
    if (!thread || isAtRest) return;
    endedThreads.add(this.#options.model, thread);
    thread.yieldToOthers();
  }

  #hasRoom(): boolean {
    const { model, maxEndedThreads = MAX_ENDED_THREADS } = this.#options;
    return endedThreads.count(model) < maxEndedThreads;
  }

  #unstoppable(): string {
    const { model } = this.#options;
    return `${endedThreads.count(model)} threads of its hooks run code that cannot be stopped; ` +
      "they are to end first";
  }

  #unloaded(): UnavailableError {
    return new UnavailableError(`Model ${JSON.stringify(this.#options.model)} is being unloaded`);
  }

  #giveUpWaiting(call: PendingCall, reason: ServerError): void {
    const at = this.#waiting.indexOf(call);
    if (at < 0) return;
    this.#waiting.splice(at, 1);
    clearTimeout(call.timer);
    call.reject(reason);
  }

  /** The caller went away: its place is free at once, and the hook gets no longer than a late one. */
  #abandon(call: PendingCall, reason: ServerError): void {
    this.#giveUpWaiting(call, reason);
    for (const worker of this.#busy) {
      if (worker.call !== call) continue;
      call.reject(reason);
      clearTimeout(call.timer);
      const graceMs = this.#options.lateGraceMs ?? LATE_GRACE_MS;
      call.timer = setTimeout(() => this.#lose(worker, reason, "timeout"), graceMs);
      return;
    }
  }

  #late(hook: HookName): DeadlineExceededError {
    return new DeadlineExceededError(
      `The deadline passed before ${hook} of model ${JSON.stringify(this.#options.model)} was done`,
    );
  }

  /** Why a call that would not end failed. */
  #overrun({ hook, limits }: PendingCall): ServerError {
    if (limits.deadlineMs !== undefined && limits.deadlineMs <= performance.now()) {
      return this.#late(hook);
    }
    const { model, callTimeoutMs } = this.#options;
    return new InternalError(
      `${hook} of model ${JSON.stringify(model)} took longer than ${callTimeoutMs / 1000} s`,
    );
  }

  /** Starts one more worker when calls wait and the limit allows. */
  #grow(): void {
    const { size } = this.#options;
    if (this.#isDisposed || this.#waiting.length <= this.#starting.size) return;
    if (this.#idle.length + this.#busy.size + this.#starting.size >= size) return;
    if (!this.#hasRoom()) return this.#awaitRoom();
    this.#start().then(
      (started) => {
        if (this.#isDisposed) this.#end(started);
        else this.#release(started);
      },
      (error) => {
        // With no other worker alive nobody would ever answer the calls that wait.
        if (this.#idle.length + this.#busy.size + this.#starting.size > 0) return;
        this.#rejectWaiting(new InternalError(String(error.message), { cause: error }));
      },
    );
  }

  #rejectWaiting(error: InternalError): void {
    for (const call of this.#waiting.splice(0)) {
      this.#options.onFailure?.("start");
      clearTimeout(call.timer);
      call.reject(error);
    }
  }

  /** Starts a worker once an ended thread has gone; calls wait for that no longer than one may take. */
  #awaitRoom(): void {
    if (this.#roomTimer !== undefined) return;
    const endMs = performance.now() + this.#options.callTimeoutMs;
    this.#roomTimer = setInterval(() => {
      const isLate = performance.now() >= endMs;
      if (this.#waiting.length > 0 && !isLate && !this.#hasRoom()) return;
      clearInterval(this.#roomTimer);
      this.#roomTimer = undefined;
      if (this.#hasRoom()) return this.#grow();
      if (this.#idle.length + this.#busy.size + this.#starting.size > 0) return;
      const model = JSON.stringify(this.#options.model);
      this.#rejectWaiting(new InternalError(`Model ${model}: ${this.#unstoppable()}`));
    }, ROOM_LOOK_MS);
  }

  /** Gives a free worker the next live call, or parks it. */
  #release(free: PoolWorker): void {
    for (;;) {
      const call = this.#waiting.shift();
      if (!call) break;
      clearTimeout(call.timer);
      if (call.limits.isAborted?.()) {
        call.reject(new CancelledError("The caller went away"));
        continue;
      }
      this.#run(free, call);
      return;
    }
    this.#idle.push(free);
  }

  #run(free: PoolWorker, call: PendingCall): void {
    const { hook, limits } = call;
    free.call = call;
    free.callId++;
    this.#busy.add(free);
    const deadlineMs = limits.deadlineMs ?? Infinity;
    const ownMs = performance.now() + this.#options.callTimeoutMs;
    const endMs = Math.min(deadlineMs + (this.#options.lateGraceMs ?? LATE_GRACE_MS), ownMs);
    const end = () => this.#lose(free, this.#overrun(call), "timeout");
    call.timer = deadlineMs < ownMs
      ? setTimeout(() => {
        // The caller is answered now; the worker, which may only be awaiting a stage that will refuse
        // as late too, is not worth a new one's start unless it really hangs.
        call.reject(this.#late(hook));
        call.timer = setTimeout(end, untilMs(endMs));
      }, untilMs(deadlineMs))
      : setTimeout(end, untilMs(endMs));
    const budgetMs = untilMs(endMs);
    const inputs = call.inputs.map(({ name, datatype, shape, data }) => ({
      name,
      datatype,
      shape: [...shape],
      data: data.slice(),
    }));
    if (call.services) {
      free.session = new MetaSession(free.callId, call.services, (message, transfer) => {
        free.port.postMessage(message, transfer);
      });
    }
    const message: ToHookWorker = { type: "call", id: free.callId, hook, inputs, budgetMs };
    free.port.postMessage(message, inputs.map((tensor) => tensor.data.buffer));
  }

  /** Ends a worker that hung or broke, answers its call and lets a new one take its place. */
  #lose(lost: PoolWorker, error: Error, reason: WorkerLoss): void {
    if (!this.#busy.delete(lost)) {
      const at = this.#idle.indexOf(lost);
      if (at < 0) return;
      this.#idle.splice(at, 1);
    }
    this.#end(lost, false);
    if (lost.call) this.#options.onFailure?.(reason);
    clearTimeout(lost.call?.timer);
    lost.call?.reject(error);
    lost.call = undefined;
    lost.session?.[Symbol.dispose]();
    lost.session = undefined;
    this.#options.onWorkerLost?.(reason);
    this.#grow();
  }

  #receive(from: PoolWorker, message: CallMessage): void {
    const call = from.call;
    if (!call || message.id !== from.callId) return;
    if (message.type === "subcall" || message.type === "scratch") {
      from.session?.receive(message);
      return;
    }
    clearTimeout(call.timer);
    const session = from.session;
    from.call = undefined;
    from.session = undefined;
    this.#busy.delete(from);
    const where = `${call.hook} of model ${JSON.stringify(this.#options.model)}`;
    if (message.type === "error") {
      const text = String(message.message).slice(0, 500);
      const stage = session?.failure(message.sequence);
      if (stage !== undefined) {
        call.reject(stage);
      } else if (message.isRefusal === true) {
        call.reject(new InvalidArgumentError(`${where} refused the request: ${text}`));
      } else {
        this.#options.onFailure?.(message.isOutput === true ? "output" : "error");
        call.reject(new InternalError(`${where} failed: ${text}`));
      }
    } else {
      try {
        // Results in scratch memory are copied out before the session gives that memory back.
        call.resolve(checkTensors(message.outputs, { copyShared: true }));
      } catch (error) {
        this.#options.onFailure?.("output");
        call.reject(new InternalError(`${where} gave ${(error as Error).message}`));
      }
    }
    session?.[Symbol.dispose]();
    this.#release(from);
  }

  /** Starts a worker and evaluates the hook file in it. */
  async #start(): Promise<PoolWorker> {
    const { model, kind, directory, source, loadTimeoutMs, memoryBytes } = this.#options;
    const grants = this.#options.grants ?? NO_GRANTS;
    const worker = startSandbox(model, directory, grants);
    const { port1: port, port2 } = new MessageChannel();
    const started: PoolWorker = {
      worker,
      port,
      call: undefined,
      callId: 0,
      session: undefined,
      heapBytes: 0,
      externalBytes: 0,
    };
    const { promise, resolve, reject } = Promise.withResolvers<
      FromHookWorker & { type: "loaded" }
    >();
    started.abort = reject;
    this.#starting.add(started);
    const tooLong = `took longer than ${loadTimeoutMs / 1000} s to load`;
    const timer = setTimeout(() => reject(new Error(tooLong)), loadTimeoutMs);
    const end = (message: string, reason: WorkerLoss) => {
      reject(new Error(message));
      const text = `The hook worker of model ${JSON.stringify(model)} ended: ${message}`;
      this.#lose(started, new InternalError(text), reason);
    };
    const exhausted = `it used more than its ${Math.round(memoryBytes / 2 ** 20)} MiB of memory`;
    port.onmessage = ({ data }: MessageEvent<FromHookWorker>) => {
      if (data.type === "loaded") resolve(data);
      else if (data.type === "failed") reject(new Error(data.message));
      else if (data.type === "exhausted") end(exhausted, "memory");
      else if (data.type === "overrun") {
        reject(new Error(tooLong));
        const { call } = started;
        this.#lose(started, call ? this.#overrun(call) : new InternalError(tooLong), "timeout");
      } else if (data.type === "stray") end(`uncaught ${data.message}`, "crash");
      else if (data.type === "memory") {
        started.heapBytes = data.heapBytes;
        started.externalBytes = data.externalBytes;
      } else if (data.type === "output") this.#options.onOutput?.(data.level, data.text);
      else this.#receive(started, data);
    };
    port.onmessageerror = () => end("it sent an unreadable message", "crash");
    worker.onmessage = ({ data }: MessageEvent<FromSandbox>) => {
      if (data.type === "started") {
        // Where threads cannot be told apart the other bounds still hold.
        const thread = started.thread = KernelThread.ofWorker(data.thread);
        started.unwatch = thread &&
          memoryWatch.add(thread, memoryBytes, () => end(exhausted, "memory"));
      } else if (data.isExhausted) end(exhausted, "memory");
      else end(data.reason, "crash");
    };
    worker.onerror = (event) => {
      event.preventDefault();
      end(event.message, "crash");
    };
    try {
      const load: HookLoad = {
        codeFolder: CODE_FOLDER,
        kind,
        name: model,
        directory,
        source,
        memoryBytes,
        loadTimeoutMs,
        callTimeoutMs: this.#options.callTimeoutMs,
        grants: {
          read: grants.allowRead.length > 0,
          net: grants.allowNet.length > 0,
          env: grants.allowEnv.length > 0,
        },
      };
      const message: ToSandbox = { load, port: port2, thread: assetUrl(THREAD).href };
      worker.postMessage(message, [port2]);
      const loaded = await promise;
      this.#hooks = new Set(kind === "meta" ? ["run"] : HOOKS.filter((hook) => loaded[hook]));
      return started;
    } catch (error) {
      this.#end(started, false);
      throw new BundleError(model, `model.ts: ${(error as Error).message}`);
    } finally {
      this.#starting.delete(started);
      clearTimeout(timer);
    }
  }
}

const THREAD = "src/worker/hooks/hook_worker.ts";
const HOOKS = ["preprocess", "postprocess"] as const;
const NO_GRANTS: HookGrants = { allowRead: [], allowNet: [], allowEnv: [] };
/** Threads of all pools share one process and so one watch. */
const memoryWatch = new MemoryWatch();
const endedThreads = new EndedThreads();

/** Milliseconds from now; a timer cannot wait longer than 2³¹−1. */
function untilMs(atMs: number): number {
  return Math.min(Math.max(0, atMs - performance.now()), 2 ** 31 - 1);
}
