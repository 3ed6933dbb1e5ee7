import assert from "node:assert/strict";
import { UnavailableError } from "./errors.ts";
import { CHILD_NAME_VARIABLE, connectParent, SUPERVISOR_SOCKET_VARIABLE } from "./parent_link.ts";

function socketPath(): { readonly path: string } & Disposable {
  const folder = Deno.makeTempDirSync({ prefix: "parent-link-" });
  return {
    path: `${folder}/link.sock`,
    [Symbol.dispose]: () => Deno.removeSync(folder, { recursive: true }),
  };
}

function environment(path: string, name = "worker0"): Map<string, string> {
  return new Map([[SUPERVISOR_SOCKET_VARIABLE, path], [CHILD_NAME_VARIABLE, name]]);
}

async function readLines(connection: Deno.Conn, count: number): Promise<unknown[]> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(4096);
  let text = "";
  while (text.split("\n").length <= count) {
    const size = await connection.read(buffer);
    if (size === null) break;
    text += decoder.decode(buffer.subarray(0, size), { stream: true });
  }
  return text.trimEnd().split("\n").map((line) => JSON.parse(line));
}

Deno.test("connectParent() is undefined for a process nobody supervises", async () => {
  assert.equal(await connectParent(new Map()), undefined);
  assert.equal(await connectParent(environment("")), undefined);
});

Deno.test("connectParent() says what to do when the supervisor is not there", async () => {
  using socket = socketPath();
  await assert.rejects(connectParent(environment(socket.path)), (error) => {
    assert.ok(error instanceof UnavailableError);
    assert.match(
      error.message,
      /does not answer on ".*link\.sock".*unset REACTANT_SUPERVISOR_SOCKET/,
    );
    return true;
  });
});

Deno.test("ParentLink reports in order, repeats addresses, and ends with the supervisor", async () => {
  using socket = socketPath();
  using listener = Deno.listen({ transport: "unix", path: socket.path });
  const accepted = listener.accept();
  using link = await connectParent(environment(socket.path, "w"));
  assert.ok(link);
  const connection = await accepted;
  link.report("listening", { grpc: "127.0.0.1:1", http: "127.0.0.1:2" });
  link.report("ready");
  const address = { grpc: "127.0.0.1:1", http: "127.0.0.1:2" };
  assert.deepEqual(await readLines(connection, 3), [
    { name: "w", pid: Deno.pid, state: "starting" },
    { name: "w", pid: Deno.pid, state: "listening", ...address },
    { name: "w", pid: Deno.pid, state: "ready", ...address },
  ]);
  connection.close();
  await link.closed;
  link.report("unready");
});
