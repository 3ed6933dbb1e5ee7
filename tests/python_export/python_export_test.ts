/** Runs the exporter's own tests, which are written in Python's unittest. */
import assert from "node:assert/strict";
import { runPython } from "../harness/python.ts";

Deno.test("the JAX exporter passes its Python tests", async () => {
  const { code, stderr } = await runPython("tests/python_export/test_jax_export.py", [], {
    timeoutMs: 600_000,
  });
  assert.equal(code, 0, stderr);
  assert.match(stderr, /Ran \d{2,} tests/);
});
