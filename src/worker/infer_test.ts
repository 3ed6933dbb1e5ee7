import assert from "node:assert/strict";
import { ClientContract, encodeInferRequest, sharedMemoryParameters } from "../protocol/mod.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import type { CallContext } from "../transport/mod.ts";
import { Inference, type InferResources } from "./infer.ts";
import { SharedMemory } from "./shared_memory.ts";
import { Usage } from "./usage.ts";

const CALL = { deadlineMs: undefined, isAborted: false } as CallContext;

/** A model that gives its input `x` back as `y`, and the rest as asked for; counts its runs. */
function echo(kind: "model" | "meta", options: { readonly hasHooks?: boolean } = {}) {
  const contract = new ClientContract("m", [
    { name: "x", datatype: "FP32", shape: [-1, 2], batchAxis: 0 },
  ], [
    { name: "y", datatype: "FP32", shape: [-1, 2], batchAxis: 0 },
    { name: "sum", datatype: "FP64", shape: [], batchAxis: undefined },
    { name: "words", datatype: "BYTES", shape: [-1], batchAxis: 0 },
  ]);
  const model = { kind, name: "m", hasHooks: false, ...options, contract, usage: new Usage() };
  const counts = { runs: 0 };
  const run = (_: unknown, { inputs }: { inputs: readonly NamedTensor[] }) => {
    counts.runs++;
    return Promise.resolve([
      { ...inputs[0]!, name: "y" },
      { name: "sum", datatype: "FP64", shape: [], data: new Uint8Array(8) },
      { name: "words", datatype: "BYTES", shape: [3], data: new Uint8Array(12) },
    ]);
  };
  return { counts, dependencies: { registry: { ready: () => model }, runner: { run } } };
}

Deno.test("a slot that is too small for its output is refused before the model runs, if that is known", async (t) => {
  const path = Deno.makeTempFileSync({ dir: "/dev/shm", prefix: "reactant-test-" });
  try {
    Deno.truncateSync(path, 64);
    using regions = new SharedMemory();
    const key = path.replace("/dev/shm", "");
    regions.register({ name: "r", key, offset: 0n, byteSize: 64n });
    /** Three rows, one output to a slot of so many bytes; resolves to the runs, and why it failed. */
    const infer = async (target: ReturnType<typeof echo>, name: string, byteSize: number) => {
      const chunks = encodeInferRequest({
        modelName: "m",
        inputs: [{ name: "x", datatype: "FP32", shape: [3, 2], data: new Uint8Array(24) }],
        outputs: [{
          name,
          parameters: sharedMemoryParameters({ region: "r", offset: 0, byteSize }),
        }],
      });
      const dependencies = { ...target.dependencies, regions } as unknown as InferResources;
      const inference = new Inference(dependencies, chunks);
      try {
        inference.answer(await inference.start(CALL), CALL);
        return [target.counts.runs, undefined];
      } catch (error) {
        return [target.counts.runs, (error as Error).message];
      } finally {
        inference.end();
      }
    };
    const refused = (name: string, bytes: number, room: number) =>
      `output "${name}" has ${bytes} bytes; its shared-memory slot holds ${room}`;
    const [plain, hooked] = [() => echo("model"), () => echo("model", { hasHooks: true })];
    const meta = () => echo("meta");
    const cases: [string, () => ReturnType<typeof echo>, [string, number], [number, unknown]][] = [
      ["rows are known", plain, ["y", 23], [0, refused("y", 24, 23)]],
      ["just enough room", plain, ["y", 24], [1, undefined]],
      ["a hook may change the rows", hooked, ["y", 23], [1, refused("y", 24, 23)]],
      ["so may a meta model", meta, ["y", 23], [1, refused("y", 24, 23)]],
      ["a fixed shape", hooked, ["sum", 7], [0, refused("sum", 8, 7)]],
      ["a fixed shape of a meta model", meta, ["sum", 7], [0, refused("sum", 8, 7)]],
      ["elements of any length", plain, ["words", 11], [1, refused("words", 12, 11)]],
    ];
    for (const [what, make, [name, room], expected] of cases) {
      await t.step(what, async () => assert.deepEqual(await infer(make(), name, room), expected));
    }
  } finally {
    Deno.removeSync(path);
  }
});
