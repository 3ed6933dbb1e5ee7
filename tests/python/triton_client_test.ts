/** tritonclient's own clients against a whole server, on both transports. */
import assert from "node:assert/strict";
import { runPython } from "../harness/python.ts";
import { startServer } from "../harness/server.ts";
import { writeEchoBundles } from "./echo_bundles.ts";

for (const transport of ["native", "grpc-js"]) {
  Deno.test(`tritonclient works with a server on ${transport}`, async (t) => {
    const models = await Deno.makeTempDir();
    try {
      await writeEchoBundles(models);
      await using server = await startServer({
        modelDirs: [models],
        args: ["--grpc-transport", transport, "--batch-wait-seconds", "0.0015"],
      });
      const port = String(server.grpcPort);
      await t.step("the synchronous client, every call it has", async () => {
        const { code, stdout, stderr } = await runPython("tests/python/triton_client.py", [port]);
        assert.equal(code, 0, stdout + stderr);
        assert.deepEqual(stdout.trim().split("\n"), [
          "server",
          "metadata",
          "configuration",
          "repository",
          "raw",
          "typed",
          "strings",
          "shapes",
          "large",
          "outputs",
          "ids",
          "compression",
          "statistics",
          "errors",
          "shared_memory",
        ]);
      });
      await t.step("the asyncio client, many requests at once", async () => {
        const { code, stdout, stderr } = await runPython("tests/python/triton_client_aio.py", [
          port,
        ]);
        assert.equal(code, 0, stdout + stderr);
        assert.deepEqual(JSON.parse(stdout), { echo: 300, pair: 150, refused: 150 });
      });
      assert.deepEqual(server.events.filter(({ level }) => level === "error"), []);
    } finally {
      await Deno.remove(models, { recursive: true });
    }
  });
}
