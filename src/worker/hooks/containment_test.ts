import assert from "node:assert/strict";
import { EndedThreads } from "./ended_threads.ts";
import {
  bytes,
  DOUBLE,
  failure,
  type Fixture,
  hookThreads,
  open,
  textOf,
  untilThreads,
} from "./testing.ts";

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
  `{ "use strict"; Promise.prototype.then = () => {}; }`,
  `{ "use strict"; Object.setPrototypeOf(Promise.prototype, {}); }`,
  `{ "use strict"; Function.prototype.call = () => {}; }`,
  `EventTarget.prototype.addEventListener.call(globalThis, "rejectionhandled", () => {})`,
  `EventTarget.prototype.addEventListener.call(undefined, "unload", () => {})`,
  `Atomics.waitAsync(new Int32Array(2), 0, 0)`,
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
  // It caught them all, so no request failed.
  assert.deepEqual(fixture.failures, []);
});

Deno.test("a link that comes after the hook file was loaded leads nowhere", async () => {
  using fixture = await open(TRY, { files: { "vocab.txt": "words" } });
  Deno.symlinkSync("/etc/passwd", `${fixture.directory}/late.txt`);
  Deno.symlinkSync("/etc", `${fixture.directory}/folder`);
  Deno.symlinkSync("vocab.txt", `${fixture.directory}/alias.txt`);
  for (const file of ["late.txt", "folder/passwd"]) {
    assert.equal(await attempt(fixture, `bundle.readText("${file}")`), "refused TypeError");
  }
  assert.equal(await attempt(fixture, `bundle.readText("alias.txt")`), "did words");
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

/** Ways to use up memory. The heap's end costs the thread, array buffers only the call. */
const BOMBS: Readonly<Record<string, readonly [lost: "memory" | undefined, code: string]>> = {
  objects: ["memory", `const k = []; for (let i = 0;; i++) k.push({ i, a: [i] });`],
  numbers: ["memory", `const k = []; for (;;) k.push(1.5);`],
  text: ["memory", `let s = "xy"; for (;;) { s += s; if (/[^xy]/.test(s)) break; }`],
  map: ["memory", `const k = new Map(); for (let i = 0;; i++) k.set(i, "" + i);`],
  lists: ["memory", `const k = []; for (;;) k.push(new Array(1e6).fill(k.length + 0.5));`],
  "slowly, between timers": [
    "memory",
    `const k = [];
     for (;;) {
       for (let i = 0; i < 1e5; i++) k.push({ i });
       await new Promise((resolve) => setTimeout(resolve));
     }`,
  ],
  "caught and repeated": [
    "memory",
    `const k = []; for (;;) try { for (;;) k.push({ k: [k.length] }); } catch {}`,
  ],
  buffers: [undefined, `const k = []; for (;;) k.push(new Uint8Array(2 ** 20).fill(1));`],
  "small buffers": [undefined, `const k = []; for (;;) k.push(new Float32Array(5e3).fill(1));`],
  "one buffer": [undefined, `new Uint8Array(2 ** 33).fill(1);`],
  "one plain buffer": [undefined, `new Uint8Array(new ArrayBuffer(2 ** 33)).fill(1);`],
  "the constructor of an array": [
    undefined,
    `new (new Uint8Array(1).constructor)(2 ** 33).fill(1);`,
  ],
  "the constructor of all arrays": [
    undefined,
    `Reflect.construct(Object.getPrototypeOf(new Float64Array(1)).constructor, [2 ** 30]).fill(1);`,
  ],
  "a subclass": [undefined, `class Mine extends Uint8Array {} new Mine(2 ** 33).fill(1);`],
  "from()": [undefined, `const k = []; for (;;) k.push(Uint8Array.from({ length: 1e5 }));`],
  "map()": [
    undefined,
    `const a = new Uint8Array(2 ** 20), k = []; for (;;) k.push(a.map(() => 1));`,
  ],
  "slice()": [undefined, `const a = new Uint8Array(2 ** 22), k = []; for (;;) k.push(a.slice());`],
  "toReversed()": [
    undefined,
    `const a = new Uint8Array(2 ** 22), k = []; for (;;) k.push(a.toReversed());`,
  ],
  "ArrayBuffer.slice()": [
    undefined,
    `const a = new ArrayBuffer(2 ** 22), k = []; for (;;) k.push(a.slice());`,
  ],
  "transfer()": [undefined, `new Uint8Array(new ArrayBuffer(8).transfer(2 ** 33)).fill(1);`],
  "resize()": [
    undefined,
    `const b = new ArrayBuffer(8, { maxByteLength: 2 ** 30 }); b.resize(2 ** 30);
     new Uint8Array(b).fill(1);`,
  ],
  "structuredClone()": [
    undefined,
    `const a = [new Uint8Array(2 ** 22)], k = []; for (;;) k.push(structuredClone(a));`,
  ],
  "encode()": [
    undefined,
    `const s = "x".repeat(2 ** 20), k = []; for (;;) k.push(new TextEncoder().encode(s));`,
  ],
  "reading files": [undefined, `const k = []; for (;;) k.push(bundle.readBytes("weights"));`],
};

Deno.test("a hook that uses up memory costs its call, and its neighbours nothing", async () => {
  using neighbour = await open(DOUBLE);
  const source = `const bombs = [${
    Object.values(BOMBS).map(([, code]) => `async () => { ${code} }`).join(",\n")
  }];
  register_model("m", { async preprocess([t]) { await bombs[t.data[0]]?.(); return [t]; } });`;
  using fixture = await open(source, {
    memoryBytes: 48 * 2 ** 20,
    callTimeoutMs: 600_000,
    files: { weights: "w".repeat(2 ** 20) },
  });
  let peakBytes = 0;
  const timer = setInterval(() => peakBytes = Math.max(peakBytes, Deno.memoryUsage().rss), 10);
  /** What each bomb added at most, one after the other. */
  const grown: Record<string, number> = {};
  try {
    for (const [index, [name, [lost]]] of Object.entries(BOMBS).entries()) {
      const baseBytes = peakBytes = Deno.memoryUsage().rss;
      // Garbage that is not collected in time can end the heap before the buffers' own bound is met. One
      // that cannot cost only its call does so every time.
      for (let left = 10;; left--) {
        fixture.lost.length = fixture.failures.length = 0;
        const [status, message] = await failure(fixture.pool.call("preprocess", [bytes([index])]));
        assert.equal(status, "INTERNAL", name);
        assert.match(message, /memory/i, name);
        const isLost = fixture.lost.length > 0;
        assert.deepEqual(fixture.lost, isLost ? ["memory"] : [], name);
        assert.deepEqual(fixture.failures, [isLost ? "memory" : "error"], name);
        if (isLost === (lost !== undefined)) break;
        assert.ok(left > 0, `${name}: ${isLost ? "the thread is always lost" : "it never is"}`);
      }
      const [output] = await neighbour.pool.call("preprocess", [bytes([21])]);
      assert.equal(output!.data[0], 42, name);
      const [own] = await fixture.pool.call("preprocess", [bytes([255])]);
      assert.equal(own!.data[0], 255, name);
      grown[name] = Math.round((peakBytes - baseBytes) / 2 ** 20);
    }
    // Without a bound they would take all there is. A map that grows is copied, the limit is doubled once
    // so that V8 can stop it, and what garbage is left of the one before is no bomb's fault.
    assert.ok(Object.values(grown).every((mebibytes) => mebibytes < 1024), JSON.stringify(grown));
  } finally {
    clearInterval(timer);
  }
});

/** What a hook may do to the language it shares with the code around it. Only its own answers suffer. */
const POLLUTION: readonly string[] = [
  `Promise = class {}; Promise.prototype.then = () => {};`,
  `Object.getPrototypeOf(Promise.resolve()).then = () => {};`,
  `Object.defineProperty(Object.getPrototypeOf(Promise.resolve()), "constructor", { get() { throw 1; } });`,
  `for (const key of ["map", "filter", "push", "slice", Symbol.iterator]) Array.prototype[key] = () => [];`,
  `for (const key of [0, 1, "length", "data"]) {
     Object.defineProperty(Object.prototype, key, { get: () => 7, set() {}, configurable: true });
   }`,
  `Object.prototype.type = "result"; Object.prototype.id = 1; Object.prototype.outputs = [];`,
  `structuredClone = () => {}; JSON.stringify = () => { throw 1; }; Map.prototype.get = () => 1;`,
  `WeakMap.prototype.get = () => [1]; String.prototype.slice = () => ({ big: new Array(1e6) });`,
  `Function.prototype.call = Function.prototype.apply = Function.prototype.bind = () => {};`,
  `Reflect.apply = Reflect.construct = Reflect.defineProperty = () => {}; Array.isArray = () => true;`,
  `ArrayBuffer.isView = () => true; Error = class {}; TypeError = undefined;`,
  `for (let id = 0; id < 1e4; id++) { clearTimeout(id); clearInterval(id); }`,
  `for (const name of Object.getOwnPropertyNames(globalThis)) try { delete globalThis[name]; } catch {}`,
  `Object.setPrototypeOf(globalThis, null);`,
  `onmessage = onerror = () => {}; addEventListener("message", () => {});`,
];

/** Answers that would be costly to build outside. */
const ANSWERS: readonly string[] = [
  `[{ ...t, shape: new Array(1e6).fill(1) }]`,
  `[{ ...t, name: "n".repeat(1e7) }]`,
  `[{ ...t, datatype: { big: new Array(1e6) } }]`,
  `new Array(1e6).fill(t)`,
  `{ length: 1e6 }`,
  `[new Proxy({}, { get() { throw new Error("trap"); } })]`,
  `[{ ...t, shape: [{ valueOf: () => 1 }] }]`,
  `[{ name: "x", datatype: "UINT8", shape: [1], data: new Proxy(t.data, {}) }]`,
  `(() => { throw { toString() { for (;;) {} } }; })()`,
  `(() => { throw new Error("e".repeat(1e7)); })()`,
  `new Promise(() => {})`,
  `{ then() { for (;;) {} } }`,
];

Deno.test("a hook that breaks the language or answers with garbage breaks its own calls at most", async () => {
  using neighbour = await open(DOUBLE);
  const source = (before: string, answer: string) =>
    `register_model("m", { preprocess([t]) { ${before}; return ${answer}; } });`;
  const cases = [
    ...POLLUTION.map((code) => source(code, "[t]")),
    ...ANSWERS.map((answer) => source("", answer)),
  ];
  for (const code of cases) {
    using fixture = await open(code, { callTimeoutMs: 1500 });
    const outcome = await fixture.pool.call("preprocess", [bytes([1])]).then(
      (outputs) => outputs.map((tensor) => [...tensor.data]),
      (error: Error) => error.message,
    );
    if (typeof outcome === "string") assert.ok(outcome.length < 700, code);
    else assert.deepEqual(outcome, [[1]], code);
    const [output] = await neighbour.pool.call("preprocess", [bytes([21])]);
    assert.equal(output!.data[0], 42, code);
  }
});

Deno.test("threads of hooks that loop or sleep are gone when their pool is", async () => {
  const before = hookThreads();
  for (
    const code of [
      `for (;;) {}`,
      `await new Promise(() => {})`,
      `/(x+x+)+y/.test("x".repeat(60))`,
      `(async () => { for (;;) await 0; })(); await new Promise(() => {})`,
    ]
  ) {
    using fixture = await open(`register_model("m", { async preprocess() { ${code} } });`, {
      callTimeoutMs: 200,
    });
    assert.match((await failure(fixture.pool.call("preprocess", [])))[1], /longer than 0.2 s/);
  }
  await untilThreads(before);
});

Deno.test("errors that loop when they are looked at are no way out of the time limit", async () => {
  const before = hookThreads();
  const loop = `{ get() { for (;;) {} } }`;
  for (
    const code of [
      `Promise.reject({ toString() { for (;;) {} } });`,
      `Promise.reject(Object.defineProperty(new Error("x"), "name", ${loop}));`,
      `setTimeout(() => { throw Object.defineProperty(new Error("x"), "message", ${loop}); });`,
    ]
  ) {
    using fixture = await open(
      `register_model("m", { async preprocess() { ${code} await new Promise(() => {}); } });`,
      { callTimeoutMs: 500 },
    );
    assert.match(
      (await failure(fixture.pool.call("preprocess", [])))[1],
      /longer than 0.5 s/,
      code,
    );
    assert.deepEqual(fixture.lost, ["timeout"], code);
  }
  await untilThreads(before);
});

/** Searches a string in one piece of native code that looks at nothing until it is done, in some seconds. */
const UNSTOPPABLE = `register_model("m", { preprocess([t]) {
  if (t.data[0] === 1) "a".repeat(2 ** 17).lastIndexOf("a".repeat(2 ** 16) + "b");
  return [t];
} });`;

/** Those of the least priority. */
function threadsThatGiveWay(): Set<string> {
  const threads = [...Deno.readDirSync("/proc/self/task")].map(({ name }) => name);
  return new Set(threads.filter((name) => {
    try {
      const stat = Deno.readTextFileSync(`/proc/self/task/${name}/stat`);
      // proc_pid_stat(5), field 19; the list starts at field 3.
      return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16] === "19";
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }));
}

Deno.test("threads that nothing can stop are few and give way to all others", async () => {
  const options = { callTimeoutMs: 300, maxEndedThreads: 1, model: "unstoppable" };
  // One that an earlier test left may not be gone yet.
  const before = threadsThatGiveWay();
  using fixture = await open(UNSTOPPABLE, options);
  const [, late] = await failure(fixture.pool.call("preprocess", [bytes([1])]));
  assert.match(late, /longer than 0.3 s/);
  // Nothing is started beside the one that goes on, and nobody waits longer than a call may take.
  const [status, message] = await failure(fixture.pool.call("preprocess", [bytes([2])]));
  assert.equal(status, "INTERNAL");
  assert.match(message, /1 threads of its hooks run code that cannot be stopped/);
  assert.deepEqual(fixture.failures, ["timeout", "start"]);
  await assert.rejects(
    open(DOUBLE, { ...options, loadTimeoutMs: 100 }),
    /cannot be stopped; they are to end first/,
  );
  assert.equal(threadsThatGiveWay().difference(before).size, 1);
  {
    using other = await open(DOUBLE);
    assert.equal((await other.pool.call("preprocess", [bytes([21])]))[0]!.data[0], 42);
  }
});

Deno.test("threads count for their model until they are gone", () => {
  const threads = new EndedThreads();
  const alive = new Set([1, 2, 3]);
  const thread = (id: number) => ({ isAlive: () => alive.has(id) });
  threads.add("a", thread(1));
  threads.add("a", thread(2));
  threads.add("b", thread(3));
  assert.deepEqual([threads.count("a"), threads.count("b"), threads.count("c")], [2, 1, 0]);
  alive.delete(1);
  assert.deepEqual([threads.count("a"), threads.count("b")], [1, 1]);
  alive.clear();
  assert.deepEqual([threads.count("a"), threads.count("b")], [0, 0]);
});

Deno.test("open() ends a hook file that never finishes loading, and its thread", async () => {
  const before = hookThreads();
  for (
    const source of [
      "for (;;) {}",
      "await 0; for (;;) {}",
      "await new Promise((resolve) => setTimeout(resolve)); for (;;) {}",
      "for (;;) await 0;",
      "enum Never { End } while (Never.End === 0) {}",
      "await new Promise(() => {});",
    ]
  ) {
    await assert.rejects(open(source, { loadTimeoutMs: 300 }), /took longer than 0.3 s to load/);
  }
  await untilThreads(before);
});

Deno.test("a hook file nested as deeply as can be fails to load, and nothing else", async () => {
  const deep = (opening: string, count: number) => `const a = ${opening.repeat(count)}`;
  for (
    const source of [
      deep("(", 20_000),
      `${deep("[", 20_000)}1${"]".repeat(20_000)};`,
      deep("!", 20_000),
      deep("`${", 20_000),
      deep("(", 200_001),
    ]
  ) await assert.rejects(open(source), /Cannot load model "m": model\.ts: /);
});

Deno.test("what hooks log arrives in bounded lines, and few of them", async () => {
  using fixture = await open(`register_model("m", { preprocess(inputs) {
    console.warn("first", { a: 1 }, new Uint8Array(3));
    for (let i = 0; i < 1e4; i++) console.log("x".repeat(1e4));
    return inputs;
  } });`);
  const startMs = performance.now();
  await fixture.pool.call("preprocess", [bytes([1])]);
  const seconds = (performance.now() - startMs) / 1000;
  assert.equal(fixture.output[0], `warn first {"a":1} Uint8Array(3 bytes)`);
  // 20 a second and one that says how many were dropped, in each second that it took or touched.
  const most = 21 * (Math.ceil(seconds) + 1);
  assert.ok(fixture.output.length <= most, `${fixture.output.length} lines in ${seconds} s`);
  assert.ok(fixture.output.every((line) => line.length < 520));
});

Deno.test("the operator's grants open what they name and nothing else", async () => {
  const folder = Deno.makeTempDirSync();
  Deno.writeTextFileSync(`${folder}/granted`, "granted text");
  Deno.writeTextFileSync(`${folder}/other`, "other text");
  Deno.env.set("HOOK_TEST_GRANTED", "granted value");
  Deno.env.set("HOOK_TEST_OTHER", "other value");
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  using other = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = listener.accept().then((connection) => connection.close());
  using fixture = await open(TRY, {
    grants: {
      allowRead: [`${folder}/granted`],
      allowNet: [`127.0.0.1:${listener.addr.port}`],
      allowEnv: ["HOOK_TEST_GRANTED"],
    },
  });
  const read = (file: string) => `Deno.readTextFileSync(${JSON.stringify(`${folder}/${file}`)})`;
  assert.equal(await attempt(fixture, read("granted")), "did granted text");
  assert.equal(await attempt(fixture, read("other")), "refused NotCapable");
  assert.equal(
    await attempt(fixture, `Deno.readTextFileSync("/proc/self/environ")`),
    "refused NotCapable",
  );
  assert.equal(await attempt(fixture, `Deno.env.get("HOOK_TEST_GRANTED")`), "did granted value");
  assert.equal(await attempt(fixture, `Deno.env.get("HOOK_TEST_OTHER")`), "refused NotCapable");
  const connect = (port: number) =>
    `{ const c = await Deno.connect({ hostname: "127.0.0.1", port: ${port} }); c.close(); }`;
  assert.equal(await attempt(fixture, connect(listener.addr.port)), "did undefined");
  assert.equal(await attempt(fixture, connect(other.addr.port)), "refused NotCapable");
  assert.equal(
    await attempt(fixture, `fetch("http://127.0.0.1:${other.addr.port}/")`),
    "refused NotCapable",
  );
  for (
    const code of [
      `Deno.writeTextFileSync("x", "y")`,
      `new Deno.Command("true").outputSync()`,
      `Deno.exit(3)`,
      `Deno[Deno.internal].core.ops`,
      `Deno.env.set("A", "b")`,
    ]
  ) assert.match(await attempt(fixture, code), /^refused TypeError/, code);
  await accepting;
  Deno.env.delete("HOOK_TEST_GRANTED");
  Deno.env.delete("HOOK_TEST_OTHER");
  Deno.removeSync(folder, { recursive: true });
});
