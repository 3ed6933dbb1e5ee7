/** What is shipped for Prometheus and Grafana, judged by promtool and by a real Prometheus. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { dashboardFiles, DASHBOARDS, staleFiles } from "../../scripts/dashboards/mod.ts";
import { layOut, type Need, queriesOf } from "../../scripts/dashboards/panels.ts";
import { writeSoakModels } from "../../scripts/soak/models.ts";
import { startNode } from "../../scripts/soak/node.ts";
import { RIGS } from "../../scripts/soak/rigs.ts";
import { temporaryDirectory } from "../harness/bundle_builder.ts";
import { findPrometheus, run, startPrometheus } from "../harness/prometheus.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const folder = join(root, "docker/prometheus");

Deno.test("the dashboards are the seven that there should be, as their tables say", async () => {
  assert.deepEqual(await staleFiles(), [], "run deno task dashboards");
  assert.deepEqual(DASHBOARDS.map(({ uid }) => uid), [
    "rs-fleet-overview",
    "rs-latency-throughput",
    "rs-gpu-memory",
    "rs-scheduling-placement",
    "rs-model-drilldown",
    "rs-coalescing",
    "rs-gpu-work-balance",
  ]);
  for (const dashboard of DASHBOARDS) {
    const places = layOut(dashboard.panels);
    const cells = new Set<string>();
    dashboard.panels.forEach(({ title, width, height }, index) => {
      const { x, y } = places[index]!;
      assert.ok(x + width <= 24, `${dashboard.uid}: ${title}`);
      for (let column = x; column < x + width; column++) {
        for (let row = y; row < y + height; row++) {
          assert.ok(!cells.has(`${column},${row}`), `${dashboard.uid}: ${title} overlaps`);
          cells.add(`${column},${row}`);
        }
      }
    });
  }
});

Deno.test("every dashboard is provisioned from where it lies, and reads the provisioned source", async () => {
  const read = async (path: string) => parse(await Deno.readTextFile(join(root, "docker", path)));
  const compose = await read("docker-compose.monitoring.yml");
  const mounts: string[] = [
    ...compose.services.grafana.volumes,
    ...compose.services.prometheus.volumes,
  ];
  for (const mount of mounts.filter((text) => text.startsWith("./"))) {
    const source = join(root, "docker", mount.split(":")[0]!);
    assert.ok((await Deno.stat(source)).isDirectory, mount);
  }
  const { providers } = await read("grafana/provisioning/dashboards/reactantserver.yaml");
  assert.ok(
    mounts.some((mount) => mount.startsWith(`./grafana/dashboards:${providers[0].options.path}`)),
  );
  const { datasources } = await read("grafana/provisioning/datasources/prometheus.yaml");
  assert.equal(new URL(datasources[0].url).hostname, "prometheus");
  const home: string = compose.services.grafana.environment
    .GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH;
  assert.ok(dashboardFiles().has(home.split("/").at(-1)!));
  for (const text of dashboardFiles().values()) {
    const used = [...text.matchAll(/"uid": "(prometheus)"/g)].map((match) => match[1]);
    assert.ok(used.length > 0);
    assert.equal(datasources[0].uid, used[0]);
  }
});

Deno.test("dashboards and alerts name only series that the program declares", async () => {
  const declarations = (await Promise.all(
    ["worker_metrics.ts", "gateway_metrics.ts", "process_metrics.ts"].map((file) =>
      Deno.readTextFile(join(root, "src/metrics", file))
    ),
  )).join("\n");
  const alerts: { groups: { rules: { expr: string }[] }[] } = parse(
    await Deno.readTextFile(join(folder, "alerts.yml")),
  );
  const expressions = [
    ...alerts.groups.flatMap(({ rules }) => rules).map(({ expr }) => expr),
    ...DASHBOARDS.flatMap((dashboard) =>
      [...queriesOf(dashboard)].map((query) => query.expression)
    ),
    ...DASHBOARDS.flatMap(({ variables }) => variables.map(({ series }) => series)),
  ];
  const names = new Set(
    expressions.flatMap((expression) =>
      expression.match(/\b(worker|gateway|process|v8)_[a-z0-9_]+/g) ?? []
    ),
  );
  assert.ok(names.size > 40, `${names.size}`);
  // Some families are declared with a part of their name in a table: `worker_device_memory_${figure}_bytes`.
  const templates = [...declarations.matchAll(/`((?:worker|gateway|process|v8)_[\w${}]*)`/g)]
    .map((match) => new RegExp(`^${match[1]!.replaceAll(/\$\{\w+\}/g, "(\\w+)")}$`));
  const isDeclared = (family: string) =>
    declarations.includes(`"${family}"`) ||
    templates.some((template) =>
      template.exec(family)?.slice(1).every((part) => declarations.includes(`"${part}"`)) ?? false
    );
  for (const name of names) {
    const family = name.replace(/_(bucket|count|sum)$/, "");
    assert.ok(isDeclared(family), `${name} is declared nowhere`);
  }
});

Deno.test("promtool accepts the configuration and the rules, and the alerts do what they say", async () => {
  const tools = await findPrometheus();
  if (typeof tools === "string") return console.log(`not run, there is no promtool: ${tools}`);
  for (
    const args of [
      ["check", "config", "prometheus.yml"],
      ["check", "rules", "alerts.yml"],
      ["test", "rules", "alerts_test.yml"],
    ]
  ) {
    const { code, text } = await run(tools.promtool, args, { cwd: folder });
    assert.equal(code, 0, text);
  }
});

/** What a node of two CPU workers behind a gateway in lpt_packing has. */
const HAS: readonly Need[] = ["worker", "weight cache", "gateway", "placement"];
/** For all expressions together; on an idle machine a few seconds are enough. */
const DATA_WITHIN_MS = 150_000;

Deno.test("every expression has data in a real Prometheus that scrapes a loaded node", async () => {
  const tools = await findPrometheus();
  if (typeof tools === "string") return console.log(`not run, there is no Prometheus: ${tools}`);
  await using scratch = await temporaryDirectory();
  const models = join(scratch.path, "models");
  await Deno.mkdir(models);
  await writeSoakModels(models, 2);
  const { global, env, workers } = RIGS.pair;
  await using node = await startNode({
    folder: scratch.path,
    modelRepo: models,
    workers,
    global: global(2),
    env: {
      ...env(20),
      REACTANT_GATEWAY_SCHEDULING_REBALANCE_COMPUTE_SECONDS: "0.2",
    },
  });
  await using prometheus = await startPrometheus(tools, {
    target: `127.0.0.1:${node.httpPort}`,
    rules: join(folder, "alerts.yml"),
  });
  await using _load = startLoad(node);

  const pending = new Map<string, string>();
  for (const dashboard of DASHBOARDS) {
    for (const { panel, expression, needs } of queriesOf(dashboard)) {
      const filled = fillIn(expression);
      // Wrong PromQL fails at once, also where this node cannot have data.
      await prometheus.query(filled);
      if (HAS.includes(needs)) pending.set(filled, `${dashboard.title} / ${panel}`);
    }
  }
  assert.ok(pending.size > 40, `${pending.size}`);
  const endMs = performance.now() + DATA_WITHIN_MS;
  while (pending.size > 0) {
    for (const expression of [...pending.keys()]) {
      if ((await prometheus.query(expression)).length > 0) pending.delete(expression);
    }
    if (performance.now() > endMs) break;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  assert.deepEqual([...pending].map(([expression, panel]) => `${panel}: ${expression}`), []);

  const { groups } = await prometheus.api("/api/v1/rules") as {
    groups: { rules: { name: string; health: string; lastError?: string }[] }[];
  };
  const rules = groups.flatMap((group) => group.rules);
  assert.ok(rules.length > 10);
  for (const { name, health, lastError } of rules) {
    assert.notEqual(health, "err", `${name}: ${lastError}`);
  }
});

/** Variables as Grafana fills them in when everything is chosen, with windows that suit a short test. */
function fillIn(expression: string): string {
  return expression
    .replaceAll("$__rate_interval", "10s")
    .replaceAll("$__range", "60s")
    .replaceAll("$worker", ".*")
    .replaceAll("$model", ".*");
}

/** Keeps requests of every model coming until disposed. */
function startLoad(node: { readonly grpcPort: number }): AsyncDisposable {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--no-check", join(root, "main.ts"), "loadgen"],
      ...["--gateway", `127.0.0.1:${node.grpcPort}`, "--metrics", "off", "--rate", "60"],
      ...["--batch-mode", "rows", "--sweep-every", "1", "--deadline-seconds", "60"],
    ],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 90_000);
      await child.status;
      clearTimeout(timer);
    },
  };
}
