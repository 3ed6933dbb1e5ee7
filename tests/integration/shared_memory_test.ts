/**
 * System shared memory as tritonclient uses it, against a whole server: the calls of Triton's own example
 * in their order, and everything that can be wrong with a region.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import {
  rowMajorBundle,
  stablehlo,
  temporaryDirectory,
  writeBundle,
} from "../harness/bundle_builder.ts";
import { unless } from "../harness/not_run.ts";
import { runPython } from "../harness/python.ts";
import { startServer } from "../harness/server.ts";

/** `INPUT0` and `INPUT1`, [n, 16], to their sum `OUTPUT0` and difference `OUTPUT1`. */
async function writeSimple(root: string, dtype: "i32" | "f32"): Promise<void> {
  const program = (type: string) =>
    stablehlo([type, type], [type, type], [
      `%0 = stablehlo.add %arg0, %arg1 : tensor<${type}>`,
      `%1 = stablehlo.subtract %arg0, %arg1 : tensor<${type}>`,
    ], ["%0", "%1"]);
  const tensors = { inputs: ["INPUT0", "INPUT1"], outputs: ["OUTPUT0", "OUTPUT1"] };
  const bundle = rowMajorBundle({ ...tensors, dtype, width: 16, sizes: [1, 2], program });
  await writeBundle(root, "simple", bundle);
}

// Integers are copied out of their regions, floating-point numbers computed on where they lie.
for (const [transport, datatype] of [["native", "FP32"], ["grpc-js", "INT32"]] as const) {
  const name =
    `tritonclient's shared-memory flow works with ${datatype} and a server on ${transport}`;
  Deno.test(name, async () => {
    await using folder = await temporaryDirectory();
    await writeSimple(folder.path, datatype === "FP32" ? "f32" : "i32");
    await using server = await startServer({
      modelDirs: [folder.path],
      args: ["--grpc-transport", transport],
    });
    const { code, stdout, stderr } = await runPython("tests/python/shared_memory_flow.py", [
      `127.0.0.1:${server.grpcPort}`,
      datatype,
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

const FULL = fileURLToPath(new URL("../harness/full_shared_memory.ts", import.meta.url));

/** A command with a small file system of its own as /dev/shm, which nobody else sees. */
function inSmallSharedMemory(script: string): Deno.Command {
  const namespaces = Deno.uid() === 0 ? ["-m"] : ["-m", "--map-root-user"];
  return new Deno.Command("unshare", {
    args: [...namespaces, "sh", "-c", `mount -t tmpfs -o size=1m tmpfs /dev/shm && ${script}`],
    cwd: fileURLToPath(new URL("../../", import.meta.url)),
  });
}

async function canMount(): Promise<boolean> {
  try {
    return (await inSmallSharedMemory("true").output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

const missing = await canMount() ? undefined : "no tmpfs can be mounted here";

Deno.test({
  ...unless(
    missing,
    "holes that a full file system cannot fill are an error of the request that touches them",
  ),
  fn: async () => {
    const deno = JSON.stringify(Deno.execPath());
    const { success, stdout, stderr } = await inSmallSharedMemory(
      `exec ${deno} run -A ${JSON.stringify(FULL)}`,
    )
      .output();
    const decoder = new TextDecoder();
    assert.ok(success, decoder.decode(stderr));
    const full = (tensor: string) =>
      `RESOURCE_EXHAUSTED: ${tensor}: there is no memory for its part of shared-memory object ` +
      '"/reactant-sparse", whose file system is full';
    assert.deepEqual(JSON.parse(decoder.decode(stdout)), {
      "a result into a hole": full('output "y"'),
      "again, now through the descriptor": full('output "y"'),
      "an input from a hole, through the descriptor": "0",
      "an input from a hole, in place": full('input "x" of model "double"'),
      "with room again": "2",
      "both in place": "2",
    });
  },
});
