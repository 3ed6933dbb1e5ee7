import assert from "node:assert/strict";

for (const hostname of ["127.0.0.1", "::1"]) {
  Deno.test(`directClient() reaches ${hostname} whatever proxy there is`, async () => {
    // Variables count when a client is made, so a process of its own has them.
    const server = Deno.serve(
      { hostname, port: 0, onListen() {} },
      () => new Response("directly"),
    );
    const host = hostname.includes(":") ? `[${hostname}]` : hostname;
    const url = `http://${host}:${(server.addr as Deno.NetAddr).port}/`;
    const program = `import { directClient } from "${import.meta.resolve("./direct_http.ts")}";
      using client = directClient("${url}");
      console.log(await (await fetch("${url}", { client })).text());`;
    // Nobody listens on the discard port.
    const proxy = "http://127.0.0.1:9";
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["eval", "--no-check", "--quiet", program],
      env: { HTTP_PROXY: proxy, http_proxy: proxy, ALL_PROXY: proxy, NO_PROXY: "" },
    }).output();
    await server.shutdown();
    const decoder = new TextDecoder();
    assert.equal(decoder.decode(stdout), "directly\n", decoder.decode(stderr));
  });
}
