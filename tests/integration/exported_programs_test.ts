/**
 * Programs exported from JAX, run on the CPU plugin. The committed bundles carry numbers JAX computed
 * elsewhere, perhaps on a processor with other vector instructions, so floating-point results may differ
 * in their last bits there. Numbers JAX computes here, on the same machine, must be ours to the bit.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { compareWithGolden, type Comparison, openCpuBackend } from "../fixtures/programs/golden.ts";
import { runPython } from "../harness/python.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const programs = fileURLToPath(new URL("../fixtures/programs", import.meta.url));
const digits = fileURLToPath(new URL("../../examples/digits/bundle/digits", import.meta.url));

/** Largest difference allowed, over the tensor's largest magnitude. */
const TOLERANCE: Readonly<Record<string, number>> = {
  F64: 1e-14,
  F32: 1e-6,
  // One unit in the last place.
  F16: 2 ** -10,
  BF16: 2 ** -7,
};

function bundlesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].filter((entry) => entry.isDirectory)
    .map((entry) => `${folder}/${entry.name}`).sort();
}

/** What `bundle validate` prints for a folder of bundles, all of which must pass. */
async function validate(folder: string): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "main.ts", "bundle", "validate", folder],
    cwd: root,
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert.equal(code, 0, text + new TextDecoder().decode(stderr));
  return text;
}

function assertClose(comparisons: readonly Comparison[]): void {
  for (const { name, tag, relative } of comparisons) {
    const allowed = TOLERANCE[tag] ?? 0;
    assert.ok(relative <= allowed, `${name} is off by ${relative}, allowed is ${allowed}`);
  }
}

Deno.test({
  name: "exported programs give the committed numbers of JAX",
  // The plugin stays loaded for the life of the process: XLA cannot be unloaded.
  sanitizeResources: false,
  fn: runCommittedPrograms,
});

async function runCommittedPrograms(t: Deno.TestContext): Promise<void> {
  const bundles = [...bundlesIn(programs), digits];
  assert.ok(bundles.length >= 20);
  let identical = 0;
  let total = 0;
  await using backend = await openCpuBackend();
  for (const directory of bundles) {
    await t.step(directory.slice(directory.lastIndexOf("/") + 1), async () => {
      const comparisons = await compareWithGolden(backend, directory);
      assert.ok(comparisons.length > 0);
      assertClose(comparisons);
      total += comparisons.length;
      identical += comparisons.filter(({ isIdentical }) => isIdentical).length;
    });
  }
  console.log(`${identical} of ${total} committed outputs are JAX's to the bit`);
  assert.equal(backend.liveHandles().buffer, 0);
}

Deno.test("a fresh export gives the committed programs, and JAX's numbers to the bit", async () => {
  const folder = await Deno.makeTempDir({ prefix: "exported-" });
  try {
    const done = await runPython("tests/fixtures/programs/generate.py", ["--out", folder], {
      timeoutMs: 1_800_000,
    });
    assert.equal(done.code, 0, done.stderr);
    const fresh = bundlesIn(folder);
    assert.deepEqual(
      fresh.map((path) => path.slice(folder.length)),
      bundlesIn(programs).map((path) => path.slice(programs.length)),
    );
    for (const directory of fresh) {
      const name = directory.slice(folder.length);
      for (const { name: file } of Deno.readDirSync(directory)) {
        if (!file.endsWith(".mlir")) continue;
        assert.deepEqual(
          await Deno.readFile(`${directory}/${file}`),
          await Deno.readFile(`${programs}${name}/${file}`),
          `${name}/${file} is not what the exporter writes now`,
        );
      }
    }
    // Run once more, by the command that users have for it; it tells every output that is not JAX's own.
    const text = await validate(folder);
    assert.match(text, new RegExp(`${fresh.length} of ${fresh.length} .* valid`));
    assert.ok(text.split("identical to golden").length > fresh.length, text);
    assert.doesNotMatch(text, /largest difference/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
