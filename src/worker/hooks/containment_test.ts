import assert from "node:assert/strict";
import { type Fixture, open, textOf } from "./testing.ts";

/** A hook that tries each piece of code in the first tensor and tells, line by line, how it went. */
const TRY = `register_model("m", {
  async preprocess([t]) {
    const text = new TextDecoder().decode(t.data);
    let line;
    try { line = "did " + await (0, eval)("(async () => " + text + ")()"); }
    catch (e) { line = e instanceof Error ? "refused " + e.name : "threw"; }
    const data = new TextEncoder().encode(line);
    return [{ name: "r", datatype: "UINT8", shape: [data.length], data }];
  },
});`;

async function attempt(fixture: Fixture, code: string): Promise<string> {
  const data = new TextEncoder().encode(code);
  const input = { name: "x", datatype: "UINT8" as const, shape: [data.length], data };
  return textOf(await fixture.pool.call("preprocess", [input]));
}

/** Ways out, none of which may lead anywhere. */
const REFUSED: readonly string[] = [
  // Other files and the machine.
  `bundle.readText("../secret")`,
  `bundle.readText("/etc/hostname")`,
  `bundle.readText("a/../../secret")`,
  `Deno.readTextFileSync("/etc/hostname")`,
  `Deno.readTextFileSync("/proc/self/environ")`,
  `Deno.writeTextFileSync("vocab.txt", "x")`,
  `Deno.connect({ port: 9 })`,
  `Deno.env.get("HOME")`,
  `new Deno.Command("true").outputSync()`,
  `Deno.dlopen("libc.so.6", {})`,
  `Deno.hostname()`,
  `Deno.chdir(".")`,
  `Deno.exit(3)`,
  `Deno.kill(Deno.pid, "SIGTERM")`,
  `Deno.addSignalListener("SIGTERM", () => {})`,
  `Deno.stdout.writeSync(new Uint8Array([120]))`,
  `Deno[Deno.internal].core.ops.op_panic()`,
  `fetch("http://127.0.0.1:9/")`,
  `new WebSocket("ws://127.0.0.1:9/")`,
  `new WebTransport("https://127.0.0.1:9/")`,
  `new EventSource("http://127.0.0.1:9/")`,
  `navigator.gpu.requestAdapter()`,
  `localStorage.setItem("a", "b")`,
  `caches.open("a")`,
  // Node, by every door.
  ...[
    "fs",
    "process",
    "worker_threads",
    "inspector",
    "v8",
    "vm",
    "module",
    "child_process",
    "os",
    "buffer",
  ]
    .map((name) => `import("node:${name}")`),
  `import("fs")`,
  `import("npm:yaml")`,
  `import("https://example.com/x.js")`,
  `import("file:///etc/hostname")`,
  `import("./other.ts")`,
  `import("data:text/javascript,export default 1")`,
  `import("data:text/javascript," + encodeURIComponent("import 'node:vm'"))`,
  `import("blob:null/x")`,
  `require("node:fs")`,
  `process.exit(3)`,
  `process.abort()`,
  `process.kill(process.pid, "SIGKILL")`,
  `process.getBuiltinModule("node:vm")`,
  `process.dlopen({ exports: {} }, "/tmp/x.node")`,
  `process.binding("fs")`,
  `process.on("SIGTERM", () => {})`,
  `global.process.exit(3)`,
  `globalThis.constructor.constructor("return process")().exit(3)`,
  `Buffer.alloc(8)`,
  // More threads, more ports, other models.
  `new Worker("data:application/javascript,", { type: "module" })`,
  `new SharedWorker("data:application/javascript,")`,
  `new BroadcastChannel("a")`,
  `new MessageChannel()`,
  `postMessage({ type: "result", id: 1, outputs: [] })`,
  `self.postMessage({ type: "WORKER_STDOUT", data: "x" })`,
  `close()`,
  `self.close()`,
  `reportError(new Error("x"))`,
  `prompt("password?")`,
  `alert("x")`,
  `new SharedArrayBuffer(8)`,
  `WebAssembly.instantiate(new Uint8Array())`,
  `new OffscreenCanvas(8, 8)`,
  // What carries the answers.
  `{ "use strict"; EventTarget.prototype.dispatchEvent = () => {}; }`,
  `{ "use strict"; Object.getPrototypeOf(EventTarget.prototype); EventTarget.prototype.x = 1; }`,
  `{ "use strict"; Object.defineProperty(Event.prototype, "target", { get() {} }); }`,
  `{ "use strict"; helpers.numeric.softmax = null; }`,
  `{ "use strict"; bundle.name = "other"; }`,
  `{ "use strict"; Error.prepareStackTrace = (_, frames) => frames; }`,
];

Deno.test("hook code finds no way out of its sandbox", async () => {
  using fixture = await open(TRY, { files: { "vocab.txt": "words" } });
  assert.equal(await attempt(fixture, `bundle.readText("vocab.txt")`), "did words");
  assert.equal(await attempt(fixture, `helpers.numeric.argmax.name`), "did argmax");
  for (const code of REFUSED) {
    const statement = code.startsWith("{") ? code : `{ return await ${code}; }`;
    assert.match(await attempt(fixture, statement), /^refused (?!SyntaxError)/, code);
  }
  assert.deepEqual(fixture.lost, []);
});

Deno.test("hook code sees the globals it is meant to see, and no others", async () => {
  using fixture = await open(TRY);
  const names = (await attempt(fixture, `Reflect.ownKeys(globalThis).map(String).join(" ")`))
    .replace(/^did /, "").split(" ");
  for (const name of ["Deno", "process", "Buffer", "require", "postMessage", "Worker", "fetch"]) {
    assert.ok(!names.includes(name), name);
  }
  for (const name of ["console", "helpers", "bundle", "setTimeout", "performance", "crypto"]) {
    assert.ok(names.includes(name), name);
  }
});
