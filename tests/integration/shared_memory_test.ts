/**
 * System shared memory as tritonclient uses it, against a whole server: the calls of Triton's own example
 * in their order, and everything that can be wrong with a region.
 */
import assert from "node:assert/strict";
import {
  safetensors,
  stablehlo,
  temporaryDirectory,
  writeBundle,
} from "../harness/bundle_builder.ts";
import { runPython } from "../harness/python.ts";
import { startServer } from "../harness/server.ts";

/** `INPUT0` and `INPUT1`, INT32 [n, 16], to their sum `OUTPUT0` and difference `OUTPUT1`. */
async function writeSimple(root: string): Promise<void> {
  const tensor = (name: string) => ({ name, dtype: "i32", shape: "nd", dims: { d: 16 } });
  const sizes = [1, 2];
  const program = (batch: number) => {
    const type = `${batch}x16xi32`;
    return stablehlo([type, type], [type, type], [
      `%0 = stablehlo.add %arg0, %arg1 : tensor<${type}>`,
      `%1 = stablehlo.subtract %arg0, %arg1 : tensor<${type}>`,
    ], ["%0", "%1"]);
  };
  await writeBundle(root, "simple", {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: [tensor("INPUT0"), tensor("INPUT1")],
      executable_outputs: [tensor("OUTPUT0"), tensor("OUTPUT1")],
      batching: { compiled_batch_sizes: sizes },
    }),
    ...Object.fromEntries(sizes.map((size) => [`model.b${size}.mlir`, program(size)])),
    "weights.safetensors": safetensors([]),
  });
}

for (const transport of ["native", "grpc-js"]) {
  Deno.test(`tritonclient's shared-memory flow works with a server on ${transport}`, async () => {
    await using folder = await temporaryDirectory();
    await writeSimple(folder.path);
    await using server = await startServer({
      modelDirs: [folder.path],
      args: ["--grpc-transport", transport],
    });
    const { code, stdout, stderr } = await runPython("tests/python/shared_memory_flow.py", [
      `127.0.0.1:${server.grpcPort}`,
    ]);
    assert.equal(code, 0, stdout + stderr);
    assert.deepEqual(stdout.trim().split("\n"), [
      "example",
      "offsets",
      "replaced",
      "unregistered",
      "out_of_range",
      "overlapping",
      "shrunk",
      "unlinked",
      "bad_registrations",
    ]);
    assert.deepEqual(server.events.filter(({ level }) => level === "error"), []);
  });
}
