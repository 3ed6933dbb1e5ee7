import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { denseBundle, temporaryDirectory, writeBundle } from "../harness/bundle_builder.ts";
import { writeHolding } from "../harness/holding_bundle.ts";
import { freePort } from "../harness/ports.ts";
import { startServer } from "../harness/server.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const digits = `${root}examples/digits/bundle`;

/** Runs the program to its end. */
async function run(
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--config", `${root}deno.json`, `${root}main.ts`, ...args],
    env,
    signal: AbortSignal.timeout(600_000),
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** The complaint of a run that must not have logged a stack trace. */
function complaint(stderr: string): string {
  assert.doesNotMatch(stderr, /\n\s+at /);
  const lines = stderr.split("\n").filter((line) => line.startsWith("reactantserver: "));
  assert.equal(lines.length, 1, stderr);
  return lines[0]!;
}

Deno.test("serve becomes ready, drains on SIGTERM and exits with 0", async () => {
  await using server = await startServer({ modelDirs: [digits] });
  assert.deepEqual(await server.http("/healthz"), { status: 200, body: "ok" });
  assert.equal((await server.http("/readyz")).status, 200);
  server.kill("SIGTERM");
  const status = await server.exited;
  assert.equal(status.code, 0);
  assert.ok(server.events.some(({ message }) => message === "stopped"));
  assert.ok(!server.events.some(({ level }) => level === "error"));
});

Deno.test("serve opens its ports at once and reports progress while models load", async () => {
  await using folder = await temporaryDirectory();
  const held = await writeHolding(folder.path, "held", "loading");
  await using server = await startServer({
    modelDirs: [folder.path],
    until: "listening",
    args: ["--hook-load-timeout-seconds", "3600"],
  });
  const early = await server.http("/readyz");
  assert.equal(early.status, 503);
  assert.match(early.body, /0 of 1 models ready/);
  assert.equal((await server.http("/healthz")).status, 200);
  held.release();
  await server.waitForEvent(({ message }) => message === "ready");
  assert.equal((await server.http("/readyz")).status, 200);
});

Deno.test("serve stops within its grace while models are still compiling", async () => {
  await using server = await startServer({
    modelDirs: [digits],
    until: "listening",
    args: ["--shutdown-grace-seconds", "0", "--compile-parallelism", "1"],
  });
  await server.waitForEvent(({ message }) => message === "device");
  server.kill("SIGTERM");
  assert.equal((await server.exited).code, 0);
  assert.ok(!server.events.some(({ level }) => level === "error"));
});

Deno.test("serve does not spend its grace on a model that is still loading", async () => {
  await using folder = await temporaryDirectory();
  await writeBundle(folder.path, "endless", {
    ...denseBundle(),
    "model.ts":
      'console.log("at it");\nawait new Promise(() => setTimeout(() => {}, 2 ** 31 - 1));',
  });
  await using server = await startServer({
    modelDirs: [folder.path],
    until: "listening",
    args: ["--hook-load-timeout-seconds", "3600", "--shutdown-grace-seconds", "3600"],
  });
  await server.waitForEvent((event) => JSON.stringify(event).includes("at it"));
  server.kill("SIGTERM");
  assert.equal((await server.exited).code, 0);
  assert.ok(server.events.some(({ message }) => /still loading/.test(message)));
});

Deno.test("serve with nothing to serve stays up, warns and is not ready", async () => {
  const empty = Deno.makeTempDirSync();
  try {
    await using server = await startServer({ modelDirs: [empty] });
    const { status, body } = await server.http("/readyz");
    assert.equal(status, 503);
    assert.match(body, /0 of 0 models ready/);
    assert.ok(server.events.some(({ message }) => /No bundle found/.test(message)));
  } finally {
    Deno.removeSync(empty);
  }
});

Deno.test("serve names the port that is taken, and the flag to change it", async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr as Deno.NetAddr;
  const [free, alsoFree] = [String(freePort()), String(freePort())];
  const common = ["serve", "--model-dir", digits, "--host", "127.0.0.1"];
  const cases = [
    [["--port", String(port), "--metrics-port", free], "--port"],
    [["--port", alsoFree, "--metrics-port", String(port)], "--metrics-port"],
  ] as const;
  // Side by side: each waits a while for its port.
  await Promise.all(cases.map(async ([args, flag]) => {
    const { code, stderr } = await run([...common, ...args]);
    assert.equal(code, 2);
    const line = complaint(stderr);
    assert.ok(line.includes(`127.0.0.1:${port}`) && line.includes(flag), line);
  }));
});

Deno.test("serve names a plugin that is missing, of another kind or for another machine", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    const text = `${folder}/text.so`;
    Deno.writeTextFileSync(text, "this is no library");
    const arm = `${folder}/arm.so`;
    const elf = new Uint8Array(64);
    // An ELF header of a shared object for AArch64: magic, 64 bit, little-endian, ET_DYN, EM_AARCH64.
    elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
    elf.set([3, 0, 183, 0, 1], 16);
    Deno.writeFileSync(arm, elf);
    const cases: [path: string, what: RegExp][] = [
      [`${folder}/none.so`, /does not exist/],
      [text, /not .*ELF/i],
      [arm, /AArch64/i],
    ];
    for (const [path, what] of cases) {
      const { code, stderr } = await run(
        ["serve", "--model-dir", digits, "--port", `${freePort()}`, "--metrics-port", "0"],
        { REACTANT_PJRT_PLUGIN: path },
      );
      assert.equal(code, 2, stderr);
      const line = complaint(stderr);
      assert.ok(line.includes(path), line);
      assert.match(line, what);
      assert.match(line, /--pjrt-plugin/);
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("serve refuses a flag it does not know and says which it could be", async () => {
  const { code, stderr } = await run(["serve", "--model-dirs", digits]);
  assert.equal(code, 2);
  assert.match(complaint(stderr), /--model-dir\b/);
});
