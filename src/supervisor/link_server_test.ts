import assert from "node:assert/strict";
import { LinkServer } from "./link_server.ts";

Deno.test("LinkServer takes lines again that came while no descriptor was free", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "link-" });
  const path = `${folder}/link.sock`;
  const { promise: connected, resolve: connect } = Promise.withResolvers<void>();
  try {
    // A process of its own runs out of descriptors; this one is its child.
    const program = `import { LinkServer } from "${import.meta.resolve("./link_server.ts")}";
      const { promise, resolve } = Promise.withResolvers();
      using server = new LinkServer("${path}", resolve);
      const files = [];
      try {
        for (;;) files.push(Deno.openSync("/dev/null"));
      } catch {
        console.log("full");
      }
      await Deno.stdin.read(new Uint8Array(1));
      // Long enough for the line that waits to be refused.
      await new Promise((resolve) => setTimeout(resolve, 50));
      for (const file of files) file.close();
      console.log((await promise).state);
      Deno.exit(0);`;
    const supervisor = new Deno.Command("sh", {
      args: [
        ...["-c", 'ulimit -n 100; exec "$@"', "sh"],
        ...[Deno.execPath(), "eval", "--no-check", "--quiet", program],
      ],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    let output = "";
    const reading = (async () => {
      for await (const text of supervisor.stdout.pipeThrough(new TextDecoderStream())) {
        output += text;
        if (output.startsWith("full\n")) connect();
      }
    })();
    await Promise.race([connected, reading]);
    using child = await Deno.connect({ transport: "unix", path });
    await child.write(
      new TextEncoder().encode('{"name":"worker0","pid":1,"state":"ready"}\n'),
    );
    const input = supervisor.stdin.getWriter();
    await input.write(Uint8Array.of(10));
    await input.close();
    await reading;
    assert.equal((await supervisor.status).code, 0);
    assert.equal(output, "full\nready\n");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("LinkServer hands on what is well-formed and leaves out the rest", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "link-" });
  try {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    using server = new LinkServer(`${folder}/link.sock`, resolve);
    using child = await Deno.connect({ transport: "unix", path: server.path });
    const report = { name: "worker0", pid: 1, state: "ready", grpc: "127.0.0.1:1" };
    await child.write(new TextEncoder().encode(`nonsense\n${JSON.stringify(report)}\n`));
    assert.deepEqual(await promise, report);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
