import assert from "node:assert/strict";
import { findPlugin } from "./plugin_path.ts";

Deno.test("findPlugin() takes the configured path, else what setup fetched, else says what to do", () => {
  const folder = Deno.makeTempDirSync();
  try {
    assert.throws(
      () => findPlugin("cpu", "", [folder]),
      /No PJRT plugin for cpu .*scripts\/setup.*--pjrt-plugin/,
    );
    assert.throws(() => findPlugin("cuda", "", [folder]), /xla_cuda_plugin\.so.*--backend cpu/);
    assert.throws(
      () => findPlugin("cpu", `${folder}/gone.so`, [folder]),
      /gone\.so" does not exist/,
    );
    const fetched = `${folder}/xla_cpu_pjrt.so`;
    Deno.writeTextFileSync(fetched, "");
    assert.equal(findPlugin("cpu", "", ["/nowhere", folder]), fetched);
    assert.equal(findPlugin("cuda", fetched, []), fetched);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
