/** A worker that runs out of file descriptors: it stays up, and serves again when there are some. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { connect } from "../harness/client.ts";
import { startServer } from "../harness/server.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const digits = `${root}examples/digits/bundle`;

/** A worker with one model needs about thirty. */
const DESCRIPTORS = 100;

/** Resolves when an attempt succeeds; each may take as long as the test may. */
async function eventually(attempt: () => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await attempt();
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

Deno.test("a worker without descriptors for connections says so, and takes them again later", async () => {
  await using server = await startServer({
    modelDirs: [],
    executable: "/bin/sh",
    commandLine: ({ grpcPort, httpPort }) => [
      ...["-c", `ulimit -n ${DESCRIPTORS} && exec "$@"`, "sh", Deno.execPath()],
      ...["run", "-A", "--quiet", "--config", `${root}deno.json`, `${root}main.ts`],
      ...["serve", "--role", "worker", "--model-dir", digits, "--log-format", "json"],
      ...["--host", "127.0.0.1", "--port", `${grpcPort}`, "--metrics-port", `${httpPort}`],
    ],
  });
  const exhaust = async (port: number, complaint: string) => {
    const told = server.waitForEvent(({ message }) => message === complaint);
    const held: Deno.Conn[] = [];
    for (let count = 0; count < DESCRIPTORS; count++) {
      // Refused: the listener is gone for want of descriptors, and will be back.
      const connection = await Deno.connect({ hostname: "127.0.0.1", port }).catch(() => null);
      if (connection === null) break;
      held.push(connection);
    }
    const { reason } = await told;
    for (const connection of held) connection.close();
    assert.match(String(reason), /Too many open files/);
  };
  await exhaust(server.grpcPort, "gRPC connections cannot be accepted");
  await using client = connect(server);
  await eventually(() => client.inference.serverMetadata());
  await exhaust(server.httpPort, "HTTP connections cannot be accepted");
  await eventually(() => server.http("/healthz"));
});
