import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

/** Far beyond what it takes, a few seconds: a process that hangs is the failure that is looked for. */
const LIMIT_MS = 180_000;

Deno.test("the CPU device on one processor: nothing waits for itself, no memory is used twice at once", async () => {
  const subject = fileURLToPath(new URL("../harness/one_processor.ts", import.meta.url));
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "-A", subject],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let isHanging = false;
  const timer = setTimeout(() => {
    isHanging = true;
    child.kill("SIGKILL");
  }, LIMIT_MS);
  const { code, stdout, stderr } = await child.output();
  clearTimeout(timer);
  const text = new TextDecoder();
  assert.ok(!isHanging, "the process hangs");
  assert.equal(code, 0, text.decode(stderr));
  assert.equal(text.decode(stdout).trim(), "done");
});
