/**
 * Entry point of a hook's Web Worker. It runs with the permissions the pool gave it (reading the bundle's
 * own folder), evaluates the hook file from a `data:` URL and then answers one call at a time.
 *
 * Globals a hook file sees: `register_model(name, { preprocess?, postprocess? })` and
 * `bundle: { name, readBytes(file), readText(file) }`; see `src/worker/hooks/api.d.ts`.
 */

import type { NamedTensor } from "../../tensor/mod.ts";
import type { FromHookWorker, ToHookWorker } from "./messages.ts";

type Hook = (inputs: NamedTensor[]) => NamedTensor[] | Promise<NamedTensor[]>;
type Hooks = { preprocess?: Hook; postprocess?: Hook };

interface WorkerScope {
  onmessage: ((event: MessageEvent<ToHookWorker>) => void) | null;
  postMessage(message: FromHookWorker, transfer: Transferable[]): void;
}

const scope = globalThis as unknown as WorkerScope & Record<string, unknown>;
// Taken before the hook file runs, so that it cannot replace them.
const post = scope.postMessage.bind(scope);
const readFile = Deno.readFileSync;

let registered: Hooks | undefined;

/** Messages of thrown values, bounded: they travel to clients. */
function describe(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return text.length > 500 ? text.slice(0, 500) + "…" : text;
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
  scope.register_model = (_name: string, hooks: Hooks): void => {
    if (typeof hooks !== "object" || hooks === null) {
      throw new TypeError("register_model(name, hooks): hooks must be an object");
    }
    for (const key of ["preprocess", "postprocess"] as const) {
      if (hooks[key] !== undefined && typeof hooks[key] !== "function") {
        throw new TypeError(`register_model(name, hooks): ${key} must be a function`);
      }
    }
    registered = { preprocess: hooks.preprocess, postprocess: hooks.postprocess };
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
    if (!registered) throw new Error("the hook file did not call register_model(name, hooks)");
    const hooks = Object.entries(registered).filter(([, hook]) => hook).map(([key]) => key);
    post({ type: "loaded", hooks }, []);
  } catch (error) {
    post({ type: "failed", message: describe(error) }, []);
  }
}

async function call(message: ToHookWorker & { type: "call" }): Promise<void> {
  try {
    const outputs = await registered![message.hook]!([...message.inputs]);
    // Results are copied to exactly their own bytes: a view would carry its whole buffer along.
    const plain = outputs.map(({ name, datatype, shape, data }) => ({
      name,
      datatype,
      shape,
      data: ownBytes(data),
    }));
    const buffers = new Set(plain.map((tensor) => tensor.data.buffer as ArrayBuffer));
    post({ type: "result", id: message.id, outputs: plain }, [...buffers]);
  } catch (error) {
    post({ type: "error", id: message.id, message: describe(error) }, []);
  }
}

function ownBytes(data: unknown): Uint8Array {
  if (!ArrayBuffer.isView(data)) throw new TypeError("a tensor's data must be a Uint8Array");
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return bytes.byteLength === bytes.buffer.byteLength && bytes.buffer instanceof ArrayBuffer
    ? bytes
    : bytes.slice();
}

scope.onmessage = (event) => {
  const message = event.data;
  if (message.type === "load") void load(message);
  else void call(message);
};
