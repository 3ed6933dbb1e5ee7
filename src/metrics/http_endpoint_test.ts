import assert from "node:assert/strict";
import { ConfigError } from "../errors.ts";
import { Logger } from "../log.ts";
import { type HttpEndpointOptions, serveHttp } from "./http_endpoint.ts";

function serve(changes: Partial<HttpEndpointOptions> = {}) {
  const logged: string[] = [];
  const endpoint = serveHttp({
    hostname: "127.0.0.1",
    port: 0,
    metrics: () => Promise.resolve("metric 1\n"),
    readiness: () => ({ isReady: true, progress: "5 of 5 models ready" }),
    logger: new Logger({ write: (line) => void logged.push(line) }),
    ...changes,
  });
  const get = async (path: string, init?: RequestInit) => {
    const response = await fetch(`http://127.0.0.1:${endpoint.port}${path}`, init);
    return { status: response.status, body: await response.text(), headers: response.headers };
  };
  return { endpoint, get, logged, [Symbol.asyncDispose]: () => endpoint.close() };
}

Deno.test("serveHttp() answers metrics, liveness and readiness, and 404 elsewhere", async () => {
  await using server = serve();
  const metrics = await server.get("/metrics?name[]=x");
  assert.equal(metrics.status, 200);
  assert.equal(metrics.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  assert.equal(metrics.body, "metric 1\n");
  for (const path of ["/healthz", "/readyz"]) {
    const { status, body } = await server.get(path);
    assert.deepEqual([status, body], [200, "ok"], path);
  }
  for (
    const path of [
      "/page",
      "/page.ts",
      "/metric",
      "/metrics/",
      "/healthz/",
      "/%2e%2e/etc",
      "/healthz%00",
    ]
  ) {
    const { status, body } = await server.get(path);
    assert.deepEqual([status, body], [404, "not found"], path);
  }
});

Deno.test("serveHttp() answers any method, and HEAD without a body", async () => {
  await using server = serve();
  for (const method of ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
    const body = method === "POST" ? "x".repeat(100_000) : undefined;
    assert.equal((await server.get("/healthz", { method, body })).status, 200, method);
  }
  const head = await server.get("/metrics", { method: "HEAD" });
  assert.deepEqual([head.status, head.body], [200, ""]);
});

Deno.test("serveHttp() answers 400 to an address that is none, and logs nothing", async () => {
  await using server = serve();
  for (const [path, host] of [["/healthz", "a b:c/d?"], ["http://[::1/metrics", "x"]]) {
    using connection = await Deno.connect({ hostname: "127.0.0.1", port: server.endpoint.port });
    const request = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
    await connection.write(new TextEncoder().encode(request));
    const answer = await new Response(connection.readable).text();
    assert.match(answer, /^HTTP\/1\.1 400 .*address or its header Host is malformed$/s);
  }
  assert.deepEqual(server.logged, []);
});

Deno.test("serveHttp() answers 503 with the progress until the server is ready", async () => {
  const readiness = { isReady: false, progress: "2 of 5 models ready" };
  await using server = serve({ readiness: () => readiness });
  const before = await server.get("/readyz");
  assert.deepEqual([before.status, before.body], [503, "not ready: 2 of 5 models ready"]);
  assert.equal((await server.get("/healthz")).status, 200);
  readiness.isReady = true;
  assert.equal((await server.get("/readyz")).status, 200);
});

Deno.test("serveHttp() survives a failing exposition", async () => {
  await using server = serve({ metrics: () => Promise.reject(new Error("broken")) });
  const { status, body } = await server.get("/metrics");
  assert.deepEqual([status, body], [500, "internal error"]);
  assert.equal((await server.get("/healthz")).status, 200);
  assert.equal(server.logged.length, 1);
  assert.match(server.logged[0]!, /broken/);
});

Deno.test("serveHttp() says which port is taken and what to do", async () => {
  await using server = serve();
  const { port } = server.endpoint;
  assert.throws(() => serve({ port }), (error) => {
    assert.ok(error instanceof ConfigError);
    assert.match(
      error.message,
      new RegExp(`127\\.0\\.0\\.1:${port}: it is in use; free the port.*--metrics-port`),
    );
    return true;
  });
});

Deno.test("serveHttp() closes although clients keep connections open, and closing twice is harmless", async () => {
  const server = serve();
  const connection = await Deno.connect({ hostname: "127.0.0.1", port: server.endpoint.port });
  await connection.write(new TextEncoder().encode("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"));
  await connection.read(new Uint8Array(1024));
  await Promise.all([server.endpoint.close(), server.endpoint.close()]);
  connection.close();
});

Deno.test("serveHttp() closes at once although a client stopped reading", async () => {
  // Far more than the sockets' buffers hold.
  await using server = serve({ metrics: () => Promise.resolve("x".repeat(64_000_000)) });
  const connection = await Deno.connect({ hostname: "127.0.0.1", port: server.endpoint.port });
  await connection.write(new TextEncoder().encode("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"));
  await connection.read(new Uint8Array(1024));
  // Would wait for ever for what that client does not take.
  await server.endpoint.close();
  connection.close();
});
