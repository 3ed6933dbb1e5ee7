/** A bundle's programs in this process, without any server: what the device alone costs. */

import { loadBundle } from "../../src/bundle/mod.ts";
import { openPjrtBackend } from "../../src/runtime/mod.ts";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import { CPU_PLUGIN } from "./mlp_bundle.ts";

export interface InProcess extends AsyncDisposable {
  /** Host to device, execution, device to host: once, with the program of a compiled size. */
  once(size: number, inputs: readonly NamedTensor[]): Promise<Uint8Array>;
}

/** Compiles a bundle of one variant and keeps its weights on the device. */
export async function openInProcess(directory: string): Promise<InProcess> {
  await using stack = new AsyncDisposableStack();
  const backend = stack.use(await openPjrtBackend({ pluginPath: CPU_PLUGIN, platform: "cpu" }));
  const bundle = stack.use(await loadBundle(directory));
  if (bundle.kind !== "model") throw new Error("not a model");
  const programs = new Map(
    await Promise.all(bundle.programs[0]!.files.map(async ({ path }) => {
      const program = stack.use(await backend.compile(await Deno.readFile(path)));
      return [program.signature.parameters[0]!.shape[0]!, program] as const;
    })),
  );
  const weights = await Promise.all(
    bundle.weights.specs.map(async (spec, index) =>
      stack.use(await backend.upload(spec, await bundle.weights.read(index)))
    ),
  );
  const owned = stack.move();
  return {
    once: async (size, inputs) =>
      (await backend.run(programs.get(size)!, inputs, weights)).outputs[0]!,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
