/** Runs the exporter's own tests, which are written in Python's unittest. */
import assert from "node:assert/strict";
import { runPython } from "../harness/python.ts";

for (const [what, file, tests] of [["JAX", "jax", 10], ["meta model", "meta", 7]] as const) {
  Deno.test(`the ${what} exporter passes its Python tests`, async () => {
    const { code, stderr } = await runPython(`tests/python_export/test_${file}_export.py`, [], {
      timeoutMs: 600_000,
    });
    assert.equal(code, 0, stderr);
    const [, ran] = stderr.match(/Ran (\d+) tests/) ?? [];
    assert.ok(Number(ran) >= tests, stderr);
  });
}
