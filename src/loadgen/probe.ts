/** The probe: whether a model with several compiled shapes runs in each of them. */

import { join } from "node:path";
import { type Bundle, loadBundle, type ShapeVariant } from "../bundle/mod.ts";
import { ServerConnection } from "../client/mod.ts";
import { ConfigError, messageOf, ServerError } from "../errors.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import { fill } from "./fill.ts";
import { Random } from "./random.ts";
import { LOADGEN_EXIT } from "./verdict.ts";

export interface ProbeOptions {
  readonly gateway: string;
  readonly model: string;
  /** Folder of bundles; the model's shapes are in its manifest. */
  readonly modelRepo: string;
  /** For each request: the first one to a shape may have to wait for a compilation. */
  readonly deadlineSeconds: number;
  readonly print: (line: string) => void;
}

/**
 * Sends one request of zeros for each shape variant of a model, largest first.
 * @returns `LOADGEN_EXIT.ok` or `.failures`
 * @throws {ConfigError} when the bundle cannot be read
 */
export async function runProbe(options: ProbeOptions): Promise<number> {
  const { model, gateway, deadlineSeconds, print } = options;
  const shapes = await shapesOf(options);
  await using connection = new ServerConnection({ url: gateway });
  let failures = 0;
  for (const { name, inputs } of shapes) {
    const startMs = performance.now();
    try {
      await connection.inference.infer({ modelName: model, inputs }, {
        deadlineMs: startMs + deadlineSeconds * 1000,
      });
      print(`ok    ${name}  ${((performance.now() - startMs) / 1000).toFixed(3)} s`);
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      failures++;
      print(`FAIL  ${name}  ${error.status}: ${error.message}`);
    }
  }
  print(`probe: ${shapes.length - failures} of ${shapes.length} shapes of ${model} run`);
  return failures === 0 ? LOADGEN_EXIT.ok : LOADGEN_EXIT.failures;
}

interface ProbedShape {
  readonly name: string;
  readonly inputs: readonly NamedTensor[];
}

async function shapesOf({ model, modelRepo }: ProbeOptions): Promise<ProbedShape[]> {
  let bundle: Bundle;
  try {
    bundle = await loadBundle(join(modelRepo, model));
  } catch (error) {
    throw new ConfigError(`Cannot probe ${JSON.stringify(model)}: ${messageOf(error)}`);
  }
  using owned = bundle;
  const variants = owned.manifest.variants;
  const one: ShapeVariant = { index: 0, sizes: new Map(), key: [] };
  const shapes = (variants.length > 0 ? variants : [one]).map((variant): ProbedShape => {
    const sizes = [...variant.sizes].map(([letter, size]) => `${letter}=${size}`).join(" ");
    return { name: sizes === "" ? "the only shape" : sizes, inputs: inputsOf(owned, variant) };
  });
  const bytes = ({ inputs }: ProbedShape) => inputs.reduce((sum, { data }) => sum + data.length, 0);
  return shapes.sort((a, b) => bytes(b) - bytes(a));
}

/** Zeros for one row. Axes that no variant decides, those of a hook's own inputs, get one element. */
function inputsOf({ manifest }: Bundle, { sizes }: ShapeVariant): NamedTensor[] {
  const zeros = new Random(0);
  return manifest.clientInputs.map(({ name, datatype, shape, variableAxes }): NamedTensor => {
    const letters = new Map(variableAxes.map(({ axis, letter }) => [axis, letter]));
    const extents = shape.map((extent, axis) =>
      extent >= 0 ? extent : sizes.get(letters.get(axis) ?? "") ?? 1
    );
    return { name, datatype, shape: extents, data: fill(datatype, extents, "zeros", zeros) };
  });
}
