/**
 * What a hook file finds around it. The thread starts with everything Deno and Node offer, internal
 * operations included, most of which ask no permission; `sealRealm` takes away all that is not named here
 * before any hook code runs. What is left can compute, wait and, where the operator granted it, read,
 * connect or see variables.
 */

import { registerHooks } from "node:module";
import type { Guard } from "./guard.ts";
import { refuseImport } from "./hook_module.ts";
import { guarded, makeNetwork } from "./network.ts";

/** Globals that stay. Whatever a later Deno adds is gone until it is named here. */
const KEPT: ReadonlySet<string> = new Set(
  ("Object Function Array Number parseFloat parseInt Infinity NaN undefined Boolean String Symbol Date " +
    "Promise RegExp Error AggregateError EvalError RangeError ReferenceError SyntaxError TypeError " +
    "URIError SuppressedError DisposableStack AsyncDisposableStack globalThis JSON Math Intl Temporal " +
    "ArrayBuffer SharedArrayBuffer Atomics DataView Map BigInt Set Iterator WeakMap WeakSet Proxy " +
    "Reflect WeakRef decodeURI decodeURIComponent encodeURI encodeURIComponent " +
    "escape unescape eval isFinite isNaN Uint8Array Int8Array Uint16Array Int16Array Uint32Array " +
    "Int32Array BigUint64Array BigInt64Array Uint8ClampedArray Float16Array Float32Array Float64Array " +
    "queueMicrotask AbortController AbortSignal DOMException Event EventTarget TextDecoder TextEncoder " +
    "URL URLSearchParams atob btoa structuredClone").split(" "),
);
/** Stay where the operator let the hooks connect to something. */
const KEPT_FOR_NET = [
  "Headers",
  "Request",
  "Response",
  "ReadableStream",
  "MessageEvent",
  "CloseEvent",
];

/** Lines a hook may log per second; the rest is dropped and counted. */
const LINES_PER_SECOND = 20;
const LINE_CHARACTERS = 500;
const LEVELS = ["debug", "log", "info", "warn", "error", "trace"] as const;

export type OutputLevel = "debug" | "info" | "warn" | "error";

export interface RealmOptions {
  /** What is granted beyond the bundle's folder. */
  readonly grants: { readonly read: boolean; readonly net: boolean; readonly env: boolean };
  /** What timers run their callbacks in. */
  readonly guard: Guard;
  readonly log: (level: OutputLevel, text: string) => void;
}

/** Seals this thread's realm for good. */
export function sealRealm({ grants, guard, log }: RealmOptions): void {
  registerHooks({
    resolve(specifier, context, next) {
      // Parts of Deno that load when they are first used. What is no part of it cannot import them.
      const isOwn = cut(specifier, 0, 4) === "ext:" && cut(`${context.parentURL}`, 0, 4) === "ext:";
      return isOwn ? next(specifier, context) : refuseImport(specifier);
    },
  });
  const scope = globalThis as unknown as Record<string, unknown>;
  const timers = makeTimers(guard);
  const kept = new Set([...KEPT, ...(grants.net ? KEPT_FOR_NET : [])]);
  const { granted, network } = grantedApi(grants, guard);
  refuseThreadEvents();
  // They carry the messages between the pool and this thread, and the errors that nobody caught.
  for (const type of [MessagePort, MessageEvent, ErrorEvent, PromiseRejectionEvent]) {
    freezeChain(type.prototype);
  }
  keepFromLoops();
  const getRandomValues = crypto.getRandomValues.bind(crypto);
  const randomUUID = crypto.randomUUID.bind(crypto);
  const clock = performance.now.bind(performance);
  const { timeOrigin } = performance;
  for (const name of Object.getOwnPropertyNames(scope)) {
    if (!kept.has(name) && Object.getOwnPropertyDescriptor(scope, name)?.configurable) {
      delete scope[name];
    }
  }
  Object.assign(scope, timers, {
    self: scope,
    // What its slower half answers with would run outside the guard.
    crypto: Object.freeze({ getRandomValues, randomUUID }),
    console: makeConsole(log, clock),
    performance: Object.freeze({ now: clock, timeOrigin }),
    ...(granted ? { Deno: granted } : {}),
    ...network,
  });
  // Its event would come from outside the guard.
  delete (AbortSignal as { timeout?: unknown }).timeout;
  // Call sites lead to the functions, and so to the values, of the code that called.
  Object.defineProperty(Error, "prepareStackTrace", { value: undefined });
}

/**
 * Between the calls Deno's own code runs outside the guard, where nothing stops a loop. These are the parts
 * of the language it stands on that a hook could put one into. Arrays are iterated there too, but to keep
 * hooks from changing that would cost every spread of an array a tenfold.
 */
function keepFromLoops(): void {
  Object.freeze(Promise);
  Object.freeze(Promise.prototype);
  for (const key of ["call", "apply", "bind"]) {
    Object.defineProperty(Function.prototype, key, { writable: false, configurable: false });
  }
  // What waits for it would go on outside.
  delete (Atomics as { waitAsync?: unknown }).waitAsync;
}

/** Events of the thread itself come from outside the guard too. */
function refuseThreadEvents(): void {
  const { addEventListener } = EventTarget.prototype;
  const { apply } = Reflect;
  const thread = globalThis;
  EventTarget.prototype.addEventListener = function (this: EventTarget | undefined, ...args) {
    if (this === undefined || this === null || this === thread) {
      throw new TypeError("hooks hear of no events of their thread");
    }
    return apply(addEventListener, this, args);
  };
}

function freezeChain(prototype: object): void {
  for (let at = prototype; at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    Object.freeze(at);
  }
}

interface GrantedApi {
  /** What appears as `Deno`. */
  readonly granted?: object;
  /** Globals for the network. */
  readonly network?: object;
}

/**
 * The few functions of `Deno`, and `fetch` with its kin, that a grant is for. Permissions are checked inside
 * them; what is not granted is refused before, because at a terminal Deno would ask. What follows their
 * answers runs in the guard.
 */
function grantedApi(grants: RealmOptions["grants"], guard: Guard): GrantedApi {
  if (!grants.read && !grants.net && !grants.env) return {};
  const { querySync } = Deno.permissions;
  const query = querySync.bind(Deno.permissions);
  const { connect, connectTls } = Deno;
  const { NotCapable } = Deno.errors;
  const require = (descriptor: Deno.PermissionDescriptor, what: string, grant: string) => {
    if (query(descriptor).state === "granted") return;
    throw new NotCapable(
      `${what} is not granted to the hooks of this model; the operator can list it under ${grant}`,
    );
  };
  const settle = <T>(promise: Promise<T>): Promise<T> => guarded(guard, promise);
  const reading = <T>(read: (path: string) => T) => (path: string): T => {
    require({ name: "read", path: `${path}` }, `reading ${quoted(path)}`, "allow_read");
    return read(`${path}`);
  };
  const requireHost = (host: string) =>
    require({ name: "net", host }, `reaching ${quoted(host)}`, "allow_net");
  const connecting =
    (connect: (options: { hostname: string; port: number }) => Promise<Deno.Conn>) =>
    ({ hostname = "127.0.0.1", port }: { hostname?: string; port: number }): Promise<object> => {
      const options = { hostname: `${hostname}`, port: +port };
      requireHost(`${options.hostname}:${options.port}`);
      return settle(connect(options).then((connection) => guardedConnection(connection, settle)));
    };
  const get = Deno.env.get.bind(Deno.env);
  const variable = (name: string): string | undefined => {
    require({ name: "env", variable: `${name}` }, `the variable ${quoted(name)}`, "allow_env");
    return get(`${name}`);
  };
  const { readFile, readTextFile } = Deno;
  const granted = Object.freeze({
    ...(grants.read
      ? {
        readFile: reading((path) => settle(readFile(path))),
        readFileSync: reading(Deno.readFileSync),
        readTextFile: reading((path) => settle(readTextFile(path))),
        readTextFileSync: reading(Deno.readTextFileSync),
        readDirSync: reading(Deno.readDirSync),
        statSync: reading(Deno.statSync),
      }
      : {}),
    ...(grants.net
      ? {
        connect: connecting((options) => connect(options)),
        connectTls: connecting((options) => connectTls(options)),
      }
      : {}),
    ...(grants.env ? { env: Object.freeze({ get: variable }) } : {}),
  });
  return grants.net ? { granted, network: makeNetwork({ guard, requireHost }) } : { granted };
}

/** What a hook may do with a connection. */
function guardedConnection(
  connection: Deno.Conn,
  settle: <T>(promise: Promise<T>) => Promise<T>,
): object {
  return Object.freeze({
    read: (buffer: Uint8Array) => settle(connection.read(buffer)),
    write: (bytes: Uint8Array) => settle(connection.write(bytes)),
    closeWrite: () => settle(connection.closeWrite()),
    close: () => connection.close(),
  });
}

function quoted(value: unknown): string {
  return JSON.stringify(cut(`${value}`, 0, 200));
}

/** Timers by numbers of their own, so that a hook cannot clear one it did not start. */
function makeTimers(guard: Guard): Record<string, unknown> {
  const { setTimeout, setInterval, clearTimeout } = globalThis;
  const { set, get, delete: remove } = Map.prototype;
  const call = Function.prototype.call.bind(Function.prototype.call) as <T>(
    method: unknown,
    self: unknown,
    ...args: unknown[]
  ) => T;
  const running = new Map<number, ReturnType<typeof setTimeout>>();
  let count = 0;
  const start = (repeats: boolean) => (callback: unknown, delay?: number, ...args: unknown[]) => {
    if (typeof callback !== "function") {
      throw new TypeError("a timer's callback must be a function");
    }
    const id = ++count;
    const fire = () => {
      if (!repeats) call(remove, running, id);
      guard.run(() => void callback(...args));
    };
    const timer = repeats ? setInterval(fire, delay) : setTimeout(fire, delay);
    call(set, running, id, timer);
    return id;
  };
  const clear = (id: unknown) => {
    clearTimeout(call<ReturnType<typeof setTimeout>>(get, running, id));
    call(remove, running, id);
  };
  return {
    setTimeout: start(false),
    setInterval: start(true),
    clearTimeout: clear,
    clearInterval: clear,
  };
}

function makeConsole(log: RealmOptions["log"], clock: () => number): object {
  let windowMs = clock();
  let lines = 0;
  const write = (level: OutputLevel) => (...values: unknown[]): void => {
    const nowMs = clock();
    if (nowMs - windowMs >= 1000) {
      const dropped = lines - LINES_PER_SECOND;
      if (dropped > 0) log("warn", `${dropped} lines of a hook were dropped`);
      windowMs = nowMs;
      lines = 0;
    }
    if (++lines > LINES_PER_SECOND) return;
    let text = "";
    for (let index = 0; index < values.length && text.length < LINE_CHARACTERS; index++) {
      text += `${text === "" ? "" : " "}${show(values[index])}`;
    }
    log(level, cut(text, 0, LINE_CHARACTERS));
  };
  const levels: Record<string, OutputLevel> = { log: "info", trace: "debug" };
  return Object.freeze(
    Object.fromEntries(
      LEVELS.map((name) => [name, write(levels[name] ?? name as OutputLevel)]),
    ),
  );
}

const cut = Function.prototype.call.bind(String.prototype.slice) as (
  text: string,
  from: number,
  to: number,
) => string;

function show(value: unknown): string {
  try {
    if (typeof value === "string") return cut(value, 0, LINE_CHARACTERS);
    if (value instanceof Error) return `${value.name}: ${value.message}`;
    if (ArrayBuffer.isView(value)) return `${value.constructor.name}(${value.byteLength} bytes)`;
    return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
  } catch {
    return "(a value that cannot be shown)";
  }
}
