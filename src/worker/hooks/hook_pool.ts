/**
 * The hooks of one model, in sandboxed Web Workers. A worker handles one call at a time, so a call that
 * hangs is ended by ending its worker, and nothing else is lost. The pool owns its workers; `dispose`
 * ends them all.
 */

import { realpathSync } from "node:fs";
import { join } from "node:path";
import {
  BundleError,
  CancelledError,
  DeadlineExceededError,
  InternalError,
  UnavailableError,
} from "../../errors.ts";
import {
  byteLengthOf,
  datatypeFromWire,
  decodeBytesElements,
  elementCount,
  type NamedTensor,
} from "../../tensor/mod.ts";
import type { FromHookWorker, HookName, ToHookWorker } from "./messages.ts";

export interface HookPoolOptions {
  readonly model: string;
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
  /** Told when a worker had to be ended. */
  readonly onWorkerLost?: (reason: string) => void;
}

export interface HookCallLimits {
  readonly deadlineMs?: number;
  readonly isAborted?: () => boolean;
}

interface PendingCall {
  readonly hook: HookName;
  readonly inputs: readonly NamedTensor[];
  readonly limits: HookCallLimits;
  readonly resolve: (outputs: NamedTensor[]) => void;
  readonly reject: (error: unknown) => void;
  timer: ReturnType<typeof setTimeout> | undefined;
}

interface PoolWorker {
  readonly worker: Worker;
  call: PendingCall | undefined;
  callId: number;
}

/** States: open → disposed. */
export class HookPool implements Disposable {
  readonly #options: HookPoolOptions;
  readonly #idle: PoolWorker[] = [];
  readonly #busy = new Set<PoolWorker>();
  readonly #waiting: PendingCall[] = [];
  #starting = 0;
  #hooks: ReadonlySet<string> = new Set();
  #isDisposed = false;

  private constructor(options: HookPoolOptions) {
    this.#options = options;
  }

  /**
   * Evaluates the hook file once, in the first worker.
   * @throws {BundleError} when it fails, registers nothing, takes too long, or its folder has a link
   *   that leads out of it
   */
  static async open(options: HookPoolOptions): Promise<HookPool> {
    refuseEscapingLinks(options.model, options.directory);
    const pool = new HookPool(options);
    try {
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

  /**
   * Runs a hook on one request's tensors, which are copied to the worker.
   * @throws {InternalError} when the hook throws, gives something that is no tensor list, or its worker
   *   dies; {DeadlineExceededError} when the request's deadline passes first
   */
  call(
    hook: HookName,
    inputs: readonly NamedTensor[],
    limits: HookCallLimits = {},
  ): Promise<NamedTensor[]> {
    if (this.#isDisposed) return Promise.reject(this.#unloaded());
    const { promise, resolve, reject } = Promise.withResolvers<NamedTensor[]>();
    const call: PendingCall = { hook, inputs, limits, resolve, reject, timer: undefined };
    const idle = this.#idle.pop();
    if (idle) {
      this.#run(idle, call);
    } else {
      if (limits.deadlineMs !== undefined) {
        call.timer = setTimeout(() => this.#giveUpWaiting(call), untilMs(limits.deadlineMs));
      }
      this.#waiting.push(call);
      this.#grow();
    }
    return promise;
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    for (const call of this.#waiting.splice(0)) {
      clearTimeout(call.timer);
      call.reject(this.#unloaded());
    }
    for (const { worker, call } of [...this.#idle.splice(0), ...this.#busy]) {
      clearTimeout(call?.timer);
      call?.reject(this.#unloaded());
      worker.terminate();
    }
    this.#busy.clear();
  }

  #unloaded(): UnavailableError {
    return new UnavailableError(`Model ${JSON.stringify(this.#options.model)} is being unloaded`);
  }

  #giveUpWaiting(call: PendingCall): void {
    const at = this.#waiting.indexOf(call);
    if (at < 0) return;
    this.#waiting.splice(at, 1);
    call.reject(this.#late(call.hook));
  }

  #late(hook: HookName): DeadlineExceededError {
    return new DeadlineExceededError(
      `The deadline passed before ${hook} of model ${JSON.stringify(this.#options.model)} was done`,
    );
  }

  /** Starts one more worker when calls wait and the limit allows. */
  #grow(): void {
    const { size } = this.#options;
    if (this.#isDisposed || this.#waiting.length <= this.#starting) return;
    if (this.#idle.length + this.#busy.size + this.#starting >= size) return;
    this.#starting++;
    this.#start().then(
      (started) => {
        this.#starting--;
        if (this.#isDisposed) started.worker.terminate();
        else this.#release(started);
      },
      (error) => {
        this.#starting--;
        // With no other worker alive nobody would ever answer the calls that wait.
        if (this.#idle.length + this.#busy.size + this.#starting > 0) return;
        for (const call of this.#waiting.splice(0)) {
          clearTimeout(call.timer);
          call.reject(new InternalError(String(error.message), { cause: error }));
        }
      },
    );
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
    call.timer = setTimeout(() => {
      const error = deadlineMs <= ownMs ? this.#late(hook) : new InternalError(
        `${hook} of model ${JSON.stringify(this.#options.model)} took longer than ` +
          `${this.#options.callTimeoutMs / 1000} s`,
      );
      this.#lose(free, error, "timeout");
    }, untilMs(Math.min(deadlineMs, ownMs)));
    const inputs = call.inputs.map(({ name, datatype, shape, data }) => ({
      name,
      datatype,
      shape: [...shape],
      data: data.slice(),
    }));
    const message: ToHookWorker = { type: "call", id: free.callId, hook, inputs };
    free.worker.postMessage(message, inputs.map((tensor) => tensor.data.buffer));
  }

  /** Ends a worker that hung or broke, answers its call and lets a new one take its place. */
  #lose(lost: PoolWorker, error: Error, reason: string): void {
    if (!this.#busy.delete(lost)) {
      const at = this.#idle.indexOf(lost);
      if (at < 0) return;
      this.#idle.splice(at, 1);
    }
    lost.worker.terminate();
    clearTimeout(lost.call?.timer);
    lost.call?.reject(error);
    lost.call = undefined;
    this.#options.onWorkerLost?.(reason);
    this.#grow();
  }

  #settle(from: PoolWorker, message: FromHookWorker): void {
    const call = from.call;
    if (!call || (message.type !== "result" && message.type !== "error")) return;
    if (message.id !== from.callId) return;
    clearTimeout(call.timer);
    from.call = undefined;
    this.#busy.delete(from);
    const where = `${call.hook} of model ${JSON.stringify(this.#options.model)}`;
    if (message.type === "error") {
      call.reject(new InternalError(`${where} failed: ${String(message.message).slice(0, 500)}`));
    } else {
      try {
        call.resolve(checkTensors(message.outputs));
      } catch (error) {
        call.reject(new InternalError(`${where} gave ${(error as Error).message}`));
      }
    }
    this.#release(from);
  }

  /** Starts a worker and evaluates the hook file in it. */
  async #start(): Promise<PoolWorker> {
    const { model, directory, source, loadTimeoutMs } = this.#options;
    const worker = new Worker(new URL("./hook_worker.ts", import.meta.url), {
      type: "module",
      name: `hook:${model}`,
      deno: {
        permissions: {
          read: [directory],
          write: false,
          net: false,
          env: false,
          run: false,
          ffi: false,
          sys: false,
          import: false,
        },
      },
    });
    const started: PoolWorker = { worker, call: undefined, callId: 0 };
    const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
    const timer = setTimeout(
      () => reject(new Error(`took longer than ${loadTimeoutMs / 1000} s to load`)),
      loadTimeoutMs,
    );
    worker.onmessage = ({ data }: MessageEvent<FromHookWorker>) => {
      if (data?.type === "loaded") resolve(data.hooks);
      else if (data?.type === "failed") reject(new Error(data.message));
      else if (data) this.#settle(started, data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new Error(event.message));
      this.#lose(
        started,
        new InternalError(
          `The hook worker of model ${JSON.stringify(model)} died: ${event.message}`,
        ),
        "crash",
      );
    };
    worker.onmessageerror = () => {
      this.#lose(
        started,
        new InternalError(`A hook of model ${JSON.stringify(model)} sent an unreadable message`),
        "crash",
      );
    };
    try {
      const load: ToHookWorker = { type: "load", name: model, directory, source };
      worker.postMessage(load);
      this.#hooks = new Set(await promise);
      return started;
    } catch (error) {
      worker.terminate();
      throw new BundleError(model, `model.ts: ${(error as Error).message}`);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Milliseconds from now; a timer cannot wait longer than 2³¹−1. */
function untilMs(atMs: number): number {
  return Math.min(Math.max(0, atMs - performance.now()), 2 ** 31 - 1);
}

/** A read permission follows symbolic links, so a link out of the folder would be a way out. */
function refuseEscapingLinks(model: string, directory: string): void {
  const root = realpathSync(directory);
  const walk = (folder: string, depth: number): void => {
    if (depth > 16) throw new BundleError(model, "its folder is nested deeper than 16 levels");
    for (const entry of Deno.readDirSync(folder)) {
      const path = join(folder, entry.name);
      if (entry.isSymlink) {
        const target = realpathSync(path);
        if (!target.startsWith(root + "/")) {
          throw new BundleError(
            model,
            `${
              JSON.stringify(entry.name)
            } is a link that leads out of the bundle; its hooks could ` +
              `read through it. Copy the file into the bundle`,
          );
        }
      } else if (entry.isDirectory) {
        walk(path, depth + 1);
      }
    }
  };
  walk(root, 0);
}

/** Tensors as a hook gave them, checked whole: name, datatype, shape and exact byte length. */
function checkTensors(value: unknown): NamedTensor[] {
  if (!Array.isArray(value)) throw new TypeError("no list of tensors");
  const seen = new Set<string>();
  return value.map((tensor: Partial<NamedTensor>, index) => {
    const { name, datatype, shape, data } = tensor ?? {};
    if (typeof name !== "string" || name === "") throw new TypeError(`no name for tensor ${index}`);
    const quoted = JSON.stringify(name.slice(0, 200));
    if (seen.has(name)) throw new TypeError(`tensor ${quoted} twice`);
    seen.add(name);
    const info = datatypeFromWire(String(datatype));
    if (!info) throw new TypeError(`tensor ${quoted} an unknown datatype ${String(datatype)}`);
    if (
      !Array.isArray(shape) || shape.length > 32 ||
      !shape.every((extent) => Number.isSafeInteger(extent) && extent >= 0)
    ) throw new TypeError(`tensor ${quoted} a bad shape`);
    if (!(data instanceof Uint8Array)) throw new TypeError(`tensor ${quoted} no bytes`);
    const spec = { datatype: info.datatype, shape: shape as number[] };
    if (info.datatype === "BYTES") {
      const found = decodeBytesElements(data).length;
      if (found !== elementCount(spec.shape)) {
        throw new TypeError(`tensor ${quoted} ${found} elements for shape [${shape}]`);
      }
    } else if (data.length !== byteLengthOf(spec)) {
      throw new TypeError(
        `tensor ${quoted} ${data.length} bytes where ${byteLengthOf(spec)} belong to [${shape}]`,
      );
    }
    return { name, datatype: info.datatype, shape: spec.shape, data };
  });
}
