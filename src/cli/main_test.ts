import assert from "node:assert/strict";
import { COMMANDS } from "./roles.ts";
import { EXIT, main } from "./mod.ts";

/** Runs the program in this process and collects what it writes. */
async function run(...args: string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const code = await main(args, {
    print: (line) => void out.push(line),
    complain: (line) => void err.push(line),
  });
  return { code, out: out.join("\n"), err };
}

Deno.test("main() lists the commands, and each command's flags with variable and default", async () => {
  const { code, out } = await run("--help");
  assert.equal(code, EXIT.ok);
  for (const { name, summary } of COMMANDS) assert.match(out, new RegExp(`${name} +${summary}`));
  const serve = await run("serve", "--help");
  assert.equal(serve.code, EXIT.ok);
  assert.match(serve.out, /--port N\n.*default 8080; INFERENCE_SERVER_ENDPOINTS_PORT\)/);
  assert.match(serve.out, /--pjrt-plugin FILE\n.*REACTANT_PJRT_PLUGIN\)/);
  assert.match(serve.out, /--\[no-\]preallocate\n/);
  assert.match(serve.out, /Flags \(scheduler\):/);
  assert.match(serve.out, /--\[no-\]autotune-cache\n.*default unset/);
  assert.equal((await run("--port", "1", "--help")).out, serve.out);
  assert.deepEqual(await run("help", "serve"), serve);
  assert.deepEqual(await run("help"), { code, out, err: [] });
});

Deno.test("every command has the name of its table entry and a usage that starts with it", async () => {
  for (const entry of COMMANDS) {
    const { command } = await entry.load();
    assert.equal(command.name, entry.name);
    assert.ok(command.usage.replace(/^\[serve\]/, "serve").startsWith(entry.name), command.usage);
  }
});

Deno.test("main() prints its version, commit and kind", async () => {
  const { version } = JSON.parse(
    Deno.readTextFileSync(new URL("../../deno.json", import.meta.url)),
  );
  const { code, out } = await run("--version");
  assert.equal(code, EXIT.ok);
  const found = out.match(
    /^reactantserver (\S+) \(commit ([0-9a-f]{12}|unknown), source, Deno (\S+)\)$/,
  );
  assert.deepEqual([found?.[1], found?.[3]], [version, Deno.version.deno], out);
});

Deno.test("main() answers mistakes of the operator with one line and exit code 2", async () => {
  const cases: [string[], RegExp][] = [
    [["srve"], /Unknown command "srve" \(there are serve, .*\); did you mean serve\?/],
    [["serve", "--prot", "1"], /Unknown flag --prot; did you mean --port\?/],
    [["--port", "70000"], /--port must be an integer from 1 to 65535, got "70000"/],
    [["serve", "extra"], /serve takes no arguments, got "extra"/],
    [["--node-file", "/nowhere.yaml"], /"\/nowhere\.yaml" does not exist; give its path/],
    [["--pjrt-plugin", "/nowhere.so"], /PJRT plugin "\/nowhere\.so" does not exist/],
    [["config"], /config takes one action: config print/],
    [["config", "print", "more"], /config takes one action/],
    [["healthcheck", "--metrics-port", "0"], /no HTTP listener to probe/],
    [["healthcheck", "--timeout-seconds", "x"], /--timeout-seconds must be a number/],
    [["bundle"], /bundle takes an action and a path/],
  ];
  for (const [args, expected] of cases) {
    const { code, out, err } = await run(...args);
    const lines = err.filter((line) => line.startsWith("reactantserver: "));
    assert.deepEqual([code, out, lines.length], [EXIT.usage, "", 1], args.join(" "));
    assert.match(lines[0]!, expected);
    assert.ok(!lines[0]!.includes("\n"));
  }
});

Deno.test("config print shows every setting with its value and origin", async () => {
  const { code, out, err } = await run("config", "print", "--port", "9000", "--no-autotune");
  assert.deepEqual([code, err], [EXIT.ok, []]);
  assert.match(out, /^endpoints\.port +9000 +flag --port$/m);
  assert.match(out, /^runtime\.autotune +false +flag --autotune$/m);
  assert.match(out, /^scheduler\.discipline +"fair" +default$/m);
  assert.match(out, /^runtime\.autotune_cache +null +default$/m);
});

Deno.test("config print --json gives the node file's settings, per-model blocks included", async () => {
  const file = Deno.makeTempFileSync({ suffix: ".yaml" });
  try {
    Deno.writeTextFileSync(
      file,
      "model_repo: /bundles\ngateway: x\nworkers: [{name: only, port: 5000}]\n" +
        "global: {scheduler: {models: {resnet: {weight: 2.5}}}}\n",
    );
    const { code, out, err } = await run("config", "print", "--json", "--node-file", file);
    assert.equal(code, EXIT.ok);
    assert.deepEqual(err, [
      `warning: ${file}: gateway has no effect; the gateway has a file of its own`,
    ]);
    const { worker, settings } = JSON.parse(out);
    assert.equal(worker, "only");
    assert.deepEqual(settings["model_dirs"], {
      value: ["/bundles"],
      source: "file",
      name: `${file}: model_repo`,
    });
    assert.deepEqual(settings["scheduler.models.resnet.weight"], {
      value: 2.5,
      source: "file",
      name: `${file}: global.scheduler.models.resnet.weight`,
    });
    assert.equal(settings["scheduler.models.resnet.max_batch_size"].source, "default");
  } finally {
    Deno.removeSync(file);
  }
});

Deno.test("config print shows settings that serve refuses, then says so with exit code 2", async () => {
  const cases: [args: string[], row: RegExp, message: RegExp][] = [
    [
      ["--numerics", "tf32", "--backend", "cpu"],
      /^runtime\.numerics +"tf32" +flag --numerics$/m,
      /^reactantserver: --numerics tf32 needs runtime\.backend cuda, got cpu$/,
    ],
    [
      ["--model-poll-seconds", "0", "--model-control-mode", "dynamic"],
      /^model_poll_seconds +0 +flag --model-poll-seconds$/m,
      /^reactantserver: --model-poll-seconds must be above 0 when model_control_mode is dynamic/,
    ],
  ];
  for (const [flags, row, message] of cases) {
    for (const which of [[], ["--worker-name", "worker0"]]) {
      const { code, out, err } = await run("config", "print", ...which, ...flags);
      assert.deepEqual([code, err.length], [EXIT.usage, 1], err.join("\n"));
      assert.match(out, row);
      assert.match(err[0]!, message);
    }
    const json = await run("config", "print", "--json", ...flags);
    assert.equal(json.code, EXIT.usage);
    assert.ok("settings" in JSON.parse(json.out));
  }
});

Deno.test("healthcheck follows /readyz", async () => {
  let status = 503;
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => {
      assert.equal(new URL(request.url).pathname, "/readyz");
      return new Response(status === 200 ? "ok" : "not ready: 2 of 5 models ready", { status });
    },
  );
  const port = String(server.addr.port);
  const loading = await run("healthcheck", "--metrics-port", port, "--host", "0.0.0.0");
  assert.equal(loading.code, EXIT.failure);
  assert.match(loading.err[0]!, /answered 503: not ready: 2 of 5 models ready/);
  status = 200;
  assert.equal((await run("healthcheck", "--metrics-port", port)).code, EXIT.ok);
  assert.equal(
    (await run("healthcheck", "--url", `http://127.0.0.1:${port}/readyz`)).code,
    EXIT.ok,
  );
  await server.shutdown();
  const gone = await run("healthcheck", "--metrics-port", port);
  assert.equal(gone.code, EXIT.failure);
  assert.match(gone.err[0]!, /^not ready: http:\/\/127\.0\.0\.1:\d+\/readyz: /);
});
