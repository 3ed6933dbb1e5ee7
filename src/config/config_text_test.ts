import assert from "node:assert/strict";
import { readConfigText } from "./config_text.ts";
import { loadGatewayConfig } from "./gateway_load.ts";
import { readNodeFile } from "./node_file.ts";

Deno.test("readConfigText() reads files and pipes, and stops at what has no end", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/node.yaml`;
    await Deno.writeTextFile(path, "model_repo: mödels\n".repeat(10_000));
    assert.equal(readConfigText(path), "model_repo: mödels\n".repeat(10_000));
    assert.ok((await new Deno.Command("mkfifo", { args: [`${folder}/pipe`] }).output()).success);
    // As a shell gives what a command prints.
    const writer = new Deno.Command("sh", { args: ["-c", `cat ${path} > ${folder}/pipe`] }).spawn();
    assert.equal(readConfigText(`${folder}/pipe`), readConfigText(path));
    await writer.status;
    await Deno.truncate(path, 2 ** 40);
    for (const endless of [path, "/dev/zero"]) {
      assert.throws(() => readConfigText(endless), /it has more than 8388608 bytes/);
      assert.throws(
        () => readNodeFile(endless),
        /^ConfigError: Node file .* cannot be read: it has/,
      );
      assert.throws(
        () => loadGatewayConfig({ environment: {}, gatewayFile: endless }),
        /^ConfigError: Gateway file .* cannot be read: it has more than/,
      );
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
