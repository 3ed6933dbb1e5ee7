/** Models that hold something back until they are told to go on, for what is to be looked at meanwhile. */

import { join } from "node:path";
import { denseBundle, writeBundle } from "./bundle_builder.ts";

/** Ends when there is a file `go` in the bundle's folder. */
const HOLD = `const hold = async () => {
  for (;;) {
    try {
      return void bundle.readText("go");
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
};`;

const HOOKS = {
  loading: (name: string) =>
    `${HOLD}\nawait hold();\nregister_model("${name}", { preprocess: (inputs) => inputs });`,
  requests: (name: string) =>
    `${HOLD}\nregister_model("${name}", {
  async preprocess(inputs) {
    await hold();
    return inputs;
  },
});`,
};

export interface HoldingBundle {
  /** From now on nothing is held any more. */
  release(): void;
}

/** Writes the dense model, which holds either its own loading or every request until it is released. */
export async function writeHolding(
  root: string,
  name: string,
  held: keyof typeof HOOKS,
): Promise<HoldingBundle> {
  const directory = await writeBundle(root, name, {
    ...denseBundle(),
    "model.ts": HOOKS[held](name),
  });
  return { release: () => Deno.writeTextFileSync(join(directory, "go"), "") };
}
