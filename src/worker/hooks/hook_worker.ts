/**
 * Entry point of a hook's Web Worker. It runs with the permissions the pool gave it (reading the bundle's
 * own folder), evaluates the hook file from a `data:` URL and then answers one call at a time.
 *
 * The globals a hook file sees are declared in `api.d.ts`.
 */

import type { NamedTensor } from "../../tensor/mod.ts";
import { MetaCall, packTensors } from "./meta_call.ts";
import type { FromHookWorker, ToHookWorker } from "./messages.ts";

type Hook = (inputs: NamedTensor[]) => NamedTensor[] | Promise<NamedTensor[]>;
type Run = (
  inputs: NamedTensor[],
  call: MetaCall["call"],
) => NamedTensor[] | Promise<NamedTensor[]>;
type Registered =
  | { readonly kind: "model"; readonly preprocess?: Hook; readonly postprocess?: Hook }
  | { readonly kind: "meta"; readonly run: Run };

interface WorkerScope {
  onmessage: ((event: MessageEvent<ToHookWorker>) => void) | null;
  postMessage(message: FromHookWorker, transfer: Transferable[]): void;
}

const scope = globalThis as unknown as WorkerScope & Record<string, unknown>;
// Taken before the hook file runs, so that it cannot replace them.
const post = scope.postMessage.bind(scope);
const readFile = Deno.readFileSync;

let registered: Registered | undefined;
let current: MetaCall | undefined;

/** Messages of thrown values, bounded: they travel to clients. */
function describe(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return text.length > 500 ? text.slice(0, 500) + "…" : text;
}

function requireFunction(value: unknown, what: string): void {
  if (typeof value !== "function") throw new TypeError(`${what} must be a function`);
}

function prepareGlobals(name: string, directory: string): void {
  const path = (file: unknown): string => {
    if (typeof file !== "string" || file === "" || /(^|\/)\.\.?(\/|$)|^\/|\0/.test(file)) {
      throw new TypeError(
        `bundle files are named relative to the bundle, got ${JSON.stringify(file)}`,
      );
    }
    return `${directory}/${file}`;
  };
  const readBytes = (file: string): Uint8Array => readFile(path(file));
  scope.bundle = Object.freeze({
    name,
    readBytes,
    readText: (file: string): string => new TextDecoder().decode(readBytes(file)),
  });
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

async function load(message: ToHookWorker & { type: "load" }): Promise<void> {
  try {
    prepareGlobals(message.name, message.directory);
    const bytes = new TextEncoder().encode(message.source);
    let binary = "";
    for (let at = 0; at < bytes.length; at += 32768) {
      binary += String.fromCharCode(...bytes.subarray(at, at + 32768));
    }
    await import(`data:application/typescript;base64,${btoa(binary)}`);
    if (registered?.kind !== message.kind) {
      const wanted = message.kind === "meta"
        ? "register_meta(name, run)"
        : "register_model(name, hooks)";
      throw new Error(`the hook file did not call ${wanted}`);
    }
    const { kind: _kind, ...functions } = registered;
    const hooks = Object.entries(functions).filter(([, hook]) => hook).map(([key]) => key);
    post({ type: "loaded", hooks }, []);
  } catch (error) {
    post({ type: "failed", message: describe(error) }, []);
  }
}

async function handle({ id, hook, inputs }: ToHookWorker & { type: "call" }): Promise<void> {
  const meta = hook === "run" ? current = new MetaCall(id, post) : undefined;
  try {
    const functions = registered as unknown as Record<HookFunctionName, Run>;
    const outputs = await functions[hook]([...inputs], meta?.call as MetaCall["call"]);
    const { tensors, transfer } = packTensors(outputs);
    post({ type: "result", id, outputs: tensors }, transfer);
  } catch (error) {
    post({ type: "error", id, message: describe(error), sequence: meta?.sequenceOf(error) }, []);
  } finally {
    if (current === meta) current = undefined;
  }
}

type HookFunctionName = (ToHookWorker & { type: "call" })["hook"];

scope.onmessage = ({ data: message }) => {
  if (message.type === "load") void load(message);
  else if (message.type === "call") void handle(message);
  else current?.answer(message);
};
