/**
 * Takes the weights of a file into shared host memory, and says what came of it as a line of JSON.
 *
 *     deno run -A host_copy.ts WEIGHTS
 */

import { Weights } from "../../src/bundle/mod.ts";
import { Logger } from "../../src/log.ts";
import { HostStore } from "../../src/runtime/mod.ts";

if (import.meta.main) {
  const warnings: unknown[] = [];
  const logger = new Logger({ format: "json", write: (line) => warnings.push(JSON.parse(line)) });
  using weights = Weights.open("m", Deno.args[0]!, "row_major");
  using copy = await new HostStore({ sharedMode: 0o600, logger }).materialise("m", weights);
  const isRight = await (async () => {
    for (const index of weights.specs.keys()) {
      const [kept, stored] = [copy.bytes(index), await weights.read(index)];
      if (kept.some((byte, at) => byte !== stored[at])) return false;
    }
    return true;
  })();
  const left = [...Deno.readDirSync("/dev/shm")].map(({ name }) => name);
  console.log(JSON.stringify({ isShared: copy.isShared, isRight, warnings, left }));
}
