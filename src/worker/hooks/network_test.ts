import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { bytes, failure, hookThreads, open, textOf, untilThreads } from "./testing.ts";

/** A hook that runs the code of the first tensor and tells what came of it. */
const TELL = `register_model("m", {
  async preprocess([t]) {
    let line;
    try {
      line = String(await (0, eval)("(async () => { " + new TextDecoder().decode(t.data) + " })()"));
    } catch (e) { line = e.name + ": " + e.message; }
    const data = new TextEncoder().encode(line);
    return [{ name: "r", datatype: "UINT8", shape: [data.length], data }];
  },
});`;

/** A server to reach, and one that nobody may reach. */
function servers() {
  const reached: string[] = [];
  const closings: Promise<unknown>[] = [];
  const forbidden = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => {
    reached.push("the other server");
    return new Response("secret");
  });
  const elsewhere = `http://127.0.0.1:${forbidden.addr.port}/`;
  const granted = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    async (request) => {
      const { pathname } = new URL(request.url);
      if (request.headers.get("upgrade") === "websocket") {
        const { socket, response } = Deno.upgradeWebSocket(request);
        socket.onmessage = ({ data }) => socket.send(`echo ${data}`);
        closings.push(new Promise((resolve) => socket.onclose = resolve));
        return response;
      }
      const seeOther = (status: number, location: string) =>
        new Response(null, { status, headers: { location } });
      switch (pathname) {
        case "/":
          return new Response("hello", { status: 201, headers: { "x-a": "b" } });
        case "/empty":
          return new Response(null, { status: 204 });
        case "/hop":
          return seeOther(302, "/");
        case "/away":
          return seeOther(302, elsewhere);
        case "/round":
          return seeOther(302, "/round");
        case "/kept":
          return seeOther(307, "/told");
        case "/reduced":
          return seeOther(303, "/told");
        default:
          return new Response(`${request.method} ${await request.text()}`);
      }
    },
  );
  return {
    reached,
    elsewhere,
    port: granted.addr.port,
    async [Symbol.asyncDispose]() {
      // A socket whose hook was ended closes a little later than its thread.
      await Promise.all([...closings, granted.shutdown(), forbidden.shutdown()]);
    },
  };
}

Deno.test("hooks reach what is granted to them, by redirects too, and nothing else", async () => {
  await using server = servers();
  using fixture = await open(TELL, {
    grants: { allowRead: [], allowNet: [`127.0.0.1:${server.port}`], allowEnv: [] },
  });
  const tell = async (code: string) => {
    const data = new TextEncoder().encode(code);
    const input = { name: "x", datatype: "UINT8" as const, shape: [data.length], data };
    return textOf(await fixture.pool.call("preprocess", [input]));
  };
  const at = `http://127.0.0.1:${server.port}`;
  const body = (path: string, init = "{}") =>
    `const r = await fetch("${at}${path}", ${init}); return r.status + " " + await r.text();`;
  assert.equal(await tell(body("/")), "201 hello");
  assert.equal(await tell(body("/empty")), "204 ");
  assert.equal(await tell(body("/hop")), "201 hello");
  assert.equal(await tell(body("/hop", `{ redirect: "manual" }`)), "302 ");
  assert.match(await tell(body("/hop", `{ redirect: "error" }`)), /^TypeError: .*redirect/);
  assert.match(await tell(body("/round")), /^TypeError: fetch: more than 20 redirects/);
  const post = `{ method: "POST", body: "b" }`;
  assert.equal(await tell(body("/kept", post)), "200 POST b");
  assert.equal(await tell(body("/reduced", post)), "200 GET ");
  assert.equal(
    await tell(`const r = await fetch("${at}/hop");
      return r.url + " " + r.redirected + " " + r.headers.get("x-a") + " " + (r instanceof Response);`),
    `${at}/ true b true`,
  );

  const host = JSON.stringify(server.elsewhere.slice("http://".length, -1)).replaceAll(".", "\\.");
  const refused = new RegExp(
    `^NotCapable: reaching ${host} is not granted to the hooks of this model; ` +
      "the operator can list it under allow_net$",
  );
  assert.match(await tell(`await fetch("${server.elsewhere}")`), refused);
  assert.match(await tell(`await fetch(new Request("${server.elsewhere}"))`), refused);
  assert.match(await tell(`await fetch("${at}/away")`), refused);
  const socket = server.elsewhere.replace("http", "ws");
  assert.match(await tell(`new WebSocket("${socket}")`), refused);
  for (const address of ["file:///etc/hostname", "data:,x", "blob:null/x", "ftp://127.0.0.1/"]) {
    assert.match(await tell(`await fetch("${address}")`), /^TypeError: hooks may reach http/);
  }
  assert.deepEqual(server.reached, []);

  assert.equal(
    await tell(`const socket = new WebSocket("ws://127.0.0.1:${server.port}/");
      await new Promise((resolve) => socket.onopen = resolve);
      socket.send("words");
      const { data } = await new Promise((resolve) => socket.addEventListener("message", resolve));
      socket.close();
      const { code } = await new Promise((resolve) => socket.onclose = resolve);
      return data + " " + (code >= 1000) + " " + (socket.readyState === WebSocket.CLOSED);`),
    "echo words true true",
  );
  assert.deepEqual(fixture.lost, []);
});

Deno.test("a hook that never ends after an answer is ended, and its thread", async () => {
  await using server = servers();
  const before = hookThreads();
  const at = `127.0.0.1:${server.port}`;
  for (
    const wait of [
      `await fetch("http://${at}/")`,
      `await (await fetch("http://${at}/")).text()`,
      `await Deno.connect({ port: ${server.port} })`,
      `await new Promise((resolve) => new WebSocket("ws://${at}/").onopen = resolve)`,
    ]
  ) {
    using fixture = await open(
      `register_model("m", { async preprocess() { ${wait}; for (;;) {} } });`,
      { callTimeoutMs: 1000, grants: { allowRead: [], allowNet: [at], allowEnv: [] } },
    );
    const [status, message] = await failure(fixture.pool.call("preprocess", [bytes([1])]));
    assert.equal(status, "INTERNAL");
    assert.match(message, /took longer than 1 s/);
    fixture.pool[Symbol.dispose]();
    await untilThreads(before);
  }
});

Deno.test("nothing a hook does asks at a terminal", async () => {
  const root = fileURLToPath(new URL("../../../", import.meta.url));
  const attempts = [
    `await fetch("http://127.0.0.1:9/")`,
    `new WebSocket("ws://127.0.0.1:9/")`,
    `await Deno.connect({ port: 9 })`,
    `Deno.readTextFileSync("/etc/hostname")`,
    `Deno.env.get("HOME")`,
    `await import("file:///etc/hostname")`,
  ];
  const script = `
    import { open, textOf } from ${JSON.stringify(new URL("./testing.ts", import.meta.url).href)};
    using fixture = await open(${JSON.stringify(TELL)}, {
      grants: { allowRead: ["/usr"], allowNet: ["127.0.0.1:10"], allowEnv: ["LANG"] },
    });
    for (const code of ${JSON.stringify(attempts)}) {
      const data = new TextEncoder().encode(code);
      const input = { name: "x", datatype: "UINT8", shape: [data.length], data };
      console.log(textOf(await fixture.pool.call("preprocess", [input])));
    }
    console.log(Deno.stdin.isTerminal(), "at a terminal");
  `;
  const folder = Deno.makeTempDirSync();
  try {
    Deno.writeTextFileSync(`${folder}/script.ts`, script);
    // Everything but the prompts' answer: a terminal of its own, on which nobody types.
    const { stdout } = await new Deno.Command("python3", {
      args: [
        "-c",
        "import pty, sys; pty.spawn(sys.argv[1:])",
        Deno.execPath(),
        ...["run", "-A", "--no-check", "--config", `${root}deno.json`, `${folder}/script.ts`],
      ],
      env: { NO_COLOR: "1" },
      stdin: "null",
      signal: AbortSignal.timeout(300_000),
    }).output();
    const lines = new TextDecoder().decode(stdout).trim().split(/[\r\n]+/);
    assert.equal(lines.at(-1), "true at a terminal");
    assert.equal(lines.length, attempts.length + 1, lines.join("\n"));
    assert.ok(
      lines.slice(0, -2).every((line) => line.startsWith("NotCapable: ")),
      lines.join("\n"),
    );
    assert.match(lines.at(-2)!, /^TypeError: .*import/);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
