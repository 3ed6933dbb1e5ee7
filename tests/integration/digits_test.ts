/** The committed digits bundle on a whole server, asked by Triton's own client. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { connect } from "../harness/client.ts";
import { runPython } from "../harness/python.ts";
import { startServer } from "../harness/server.ts";

const bundles = fileURLToPath(new URL("../../examples/digits/bundle", import.meta.url));
const report = JSON.parse(
  Deno.readTextFileSync(new URL("../../examples/digits/report.json", import.meta.url)),
);

Deno.test("digits classifies the held-out images as well as training reported", async () => {
  assert.ok(report.accuracy >= 0.95);
  assert.equal(report.images, 360);
  await using server = await startServer({ modelDirs: [bundles] });
  await using client = connect(server);
  const { parameters } = await client.inference.modelConfig("digits");
  assert.equal(parameters.numerics?.stringValue, "f32", "a CPU computes FP32 as such");
  // One image, a full batch, one that is padded, and one that leaves a remainder of 360.
  for (const rows of [1, 8, 32, 5, 27]) {
    const { code, stdout, stderr } = await runPython("examples/digits/client_classify.py", [
      "--url",
      `127.0.0.1:${server.grpcPort}`,
      "--rows",
      `${rows}`,
    ]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, new RegExp(`accuracy 0\\.9\\d+ \\(${report.correct} of 360 `));
  }
});
