import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { V8_FLAGS } from "../../standalone.ts";

const BIG_CALLS = 30;

/** Calls with large tensors after many small ones, in a process that tells its collections. */
const SCRIPT = `
  import { open } from ${JSON.stringify(new URL("./testing.ts", import.meta.url).href)};
  using fixture = await open('register_model("m", { preprocess(inputs) { return inputs; } });');
  const call = async (bytes, count) => {
    const data = new Uint8Array(bytes);
    const input = { name: "x", datatype: "UINT8", shape: [bytes], data };
    for (let i = 0; i < count; i++) await fixture.pool.call("preprocess", [input]);
  };
  for (const small of [1000, 5000, 12_000]) {
    await call(16 << 20, ${BIG_CALLS});
    await call(100, small);
  }
  console.log("BIG");
  await call(16 << 20, ${BIG_CALLS});
`;

/** Collections of whole heaps during the large calls. */
async function collections(flags: string): Promise<number> {
  const folder = Deno.makeTempDirSync();
  const config = fileURLToPath(new URL("../../../deno.json", import.meta.url));
  try {
    Deno.writeTextFileSync(`${folder}/script.ts`, SCRIPT);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--no-check", "--config", config, `--v8-flags=--trace-gc,${flags}`],
        `${folder}/script.ts`,
      ],
      stdin: "null",
    }).output();
    const decoder = new TextDecoder();
    assert.equal(code, 0, decoder.decode(stderr));
    const [, big] = decoder.decode(stdout).split("BIG");
    return [...big!.matchAll(/Mark-Compact/g)].length;
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("large tensors do not start a collection each after many small ones", async () => {
  const found = await collections(V8_FLAGS);
  console.log(`${found} collections of whole heaps in ${BIG_CALLS} calls of 16 MiB`);
  // None, as a rule; without the flags there are more than there are calls.
  assert.ok(found <= BIG_CALLS / 2, `${found} collections in ${BIG_CALLS} calls`);
});
