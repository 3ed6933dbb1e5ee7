/** What the tests of hooks share. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { ServerError } from "../../errors.ts";
import type { NamedTensor } from "../../tensor/mod.ts";
import { HookPool, type HookPoolOptions } from "./hook_pool.ts";

/** A pool with a bundle folder of its own. */
export interface Fixture extends Disposable {
  readonly pool: HookPool;
  /** Why workers had to be ended, in order. */
  readonly lost: string[];
  /** Why calls failed through their hook, in order. */
  readonly failures: string[];
  /** What the hooks logged. */
  readonly output: string[];
  readonly directory: string;
}

export async function open(
  source: string,
  { files, ...options }: Partial<HookPoolOptions> & { files?: Record<string, string> } = {},
): Promise<Fixture> {
  const root = Deno.makeTempDirSync();
  const directory = join(root, "bundle");
  Deno.mkdirSync(directory);
  for (const [file, text] of Object.entries(files ?? {})) {
    Deno.writeTextFileSync(join(directory, file), text);
  }
  const lost: string[] = [];
  const failures: string[] = [];
  const output: string[] = [];
  try {
    const pool = await HookPool.open({
      model: "m",
      kind: "model",
      directory,
      source,
      size: 1,
      memoryBytes: 128 * 2 ** 20,
      callTimeoutMs: 300_000,
      loadTimeoutMs: 300_000,
      onWorkerLost: (reason) => lost.push(reason),
      onFailure: (reason) => failures.push(reason),
      onOutput: (level, text) => output.push(`${level} ${text}`),
      ...options,
    });
    return {
      pool,
      lost,
      failures,
      output,
      directory,
      [Symbol.dispose]() {
        pool[Symbol.dispose]();
        Deno.removeSync(root, { recursive: true });
      },
    };
  } catch (error) {
    Deno.removeSync(root, { recursive: true });
    throw error;
  }
}

/** Tensor `x` of these bytes. */
export function bytes(values: number[]): NamedTensor {
  return { name: "x", datatype: "UINT8", shape: [values.length], data: new Uint8Array(values) };
}

/** Waits until this process has so many threads of hooks at most; fails after two minutes. */
export async function untilThreads(most: number): Promise<void> {
  const deadlineMs = performance.now() + 120_000;
  while (hookThreads() > most) {
    assert.ok(performance.now() < deadlineMs, "a thread lives on");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Threads of hooks and of their sandboxes in this process. */
export function hookThreads(): number {
  return [...Deno.readDirSync("/proc/self/task")].filter(({ name }) => {
    try {
      return Deno.readTextFileSync(`/proc/self/task/${name}/comm`).startsWith("worker-");
    } catch {
      return false;
    }
  }).length;
}

/** The text a hook answered with. */
export function textOf(outputs: readonly NamedTensor[]): string {
  return new TextDecoder().decode(outputs[0]!.data);
}

/** How a call failed. */
export async function failure(
  promise: Promise<unknown>,
): Promise<[status: string, message: string]> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof ServerError) return [error.status, error.message];
    throw error;
  }
  throw new assert.AssertionError({ message: "did not fail" });
}

/** A hook that doubles bytes. */
export const DOUBLE = `register_model("m", {
  preprocess(inputs: NamedTensor[]) {
    return inputs.map((t) => ({ ...t, data: t.data.map((v) => v * 2) }));
  },
});`;
