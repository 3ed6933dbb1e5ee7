/**
 * The sentence-embedding model, built as a user builds it, on a whole server, against embeddings computed
 * by the pipeline it was published with (see `examples/minilm/golden/ORIGIN.txt`).
 */
import assert from "node:assert/strict";
import { runPython } from "../harness/python.ts";
import { startServer } from "../harness/server.ts";

Deno.test("minilm agrees with its published pipeline on every golden text", async () => {
  const models = await Deno.makeTempDir({ prefix: "models-" });
  try {
    // Two of each, for the server to choose from: every further one is a program to export and compile.
    const built = await runPython("examples/minilm/build.py", [
      ...[models, "--batch-sizes", "1,4", "--sequence-lengths", "32,256"],
    ], { timeoutMs: 1_800_000 });
    assert.equal(built.code, 0, built.stderr);
    await using server = await startServer({ modelDirs: [models], timeoutMs: 1_800_000 });
    const url = `127.0.0.1:${server.grpcPort}`;
    for (const rows of [1, 4, 3]) {
      const { code, stdout, stderr } = await runPython("examples/minilm/client_embed.py", [
        "--golden",
        "--url",
        url,
        "--rows",
        `${rows}`,
      ]);
      console.log(stdout.trim());
      assert.equal(code, 0, stdout + stderr);
      assert.match(stdout, /^41 texts, smallest cosine (0\.9999|1\.0000)/);
    }
    const similar = await runPython("examples/minilm/client_embed.py", [
      "--url",
      url,
      "How do I reset my password?",
      "I forgot my login credentials.",
      "The bank raised interest rates.",
    ]);
    const [related, unrelated] = similar.stdout.split("\n").map(Number.parseFloat);
    assert.ok(related! > 0.5 && unrelated! < 0.2, similar.stdout + similar.stderr);
  } finally {
    await Deno.remove(models, { recursive: true });
  }
});
