/** What is shipped for Prometheus and Grafana, judged by promtool and by a real Prometheus. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { dashboardFiles, DASHBOARDS, staleFiles } from "../../scripts/dashboards/mod.ts";
import { layOut, queriesOf } from "../../scripts/dashboards/panels.ts";
import { metricNames } from "../../scripts/docs/metrics.ts";
import { writeSoakModels } from "../../scripts/soak/models.ts";
import { type SoakNode, startNode } from "../../scripts/soak/node.ts";
import { RIGS } from "../../scripts/soak/rigs.ts";
import { temporaryDirectory } from "../harness/bundle_builder.ts";
import { notRun } from "../harness/not_run.ts";
import {
  findPrometheus,
  type Prometheus,
  type PrometheusTools,
  run,
  startPrometheus,
} from "../harness/prometheus.ts";

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

Deno.test("one name is compared as it is, any number of them as the expression Grafana makes of them", () => {
  for (const dashboard of DASHBOARDS) {
    for (const { name, isSingle = false } of dashboard.variables) {
      for (const { panel, expression } of queriesOf(dashboard)) {
        const wrong = `${isSingle ? "=~" : "="}"$${name}"`;
        assert.ok(!expression.includes(wrong), `${dashboard.title} / ${panel}: ${wrong}`);
      }
    }
  }
});

Deno.test("dashboards and alerts name only series that the program declares", async () => {
  const declared = new Set(metricNames());
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
  for (const name of names) {
    const family = name.replace(/_(bucket|count|sum)$/, "");
    assert.ok(declared.has(family), `${name} is declared nowhere`);
  }
});

Deno.test("every alert has a test in which it fires", async () => {
  const read = async (name: string) => parse(await Deno.readTextFile(join(folder, name)));
  const rules: { alert: string }[] = (await read("alerts.yml")).groups
    .flatMap((group: { rules: { alert: string }[] }) => group.rules);
  type Case = { alertname: string; exp_alerts: unknown[] };
  const fired = new Set(
    (await read("alerts_test.yml")).tests
      .flatMap((test: { alert_rule_test: Case[] }) => test.alert_rule_test)
      .filter((expected: Case) => expected.exp_alerts.length > 0)
      .map(({ alertname }: Case) => alertname),
  );
  assert.deepEqual(rules.map(({ alert }) => alert).filter((name) => !fired.has(name)), []);
});

Deno.test("promtool accepts the configuration and the rules, and the alerts do what they say", async (t) => {
  const tools = await findPrometheus();
  if (typeof tools === "string") return await notRun(t, `there is no promtool: ${tools}`);
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

/** For all expressions together; on an idle machine a few seconds are enough. */
const DATA_WITHIN_MS = 600_000;

Deno.test("every expression has data in a real Prometheus that scrapes a loaded node", async (t) => {
  const tools = await findPrometheus();
  if (typeof tools === "string") return await notRun(t, `there is no Prometheus: ${tools}`);
  await using rig = await startRig(tools, {
    workers: RIGS.pair.workers,
    global: RIGS.pair.global(MODELS),
    env: {
      ...RIGS.pair.env(20),
      REACTANT_GATEWAY_SCHEDULING_REBALANCE_COMPUTE_SECONDS: "0.2",
    },
  });
  const expressions = allExpressions();
  assert.ok(expressions.length > 80, `${expressions.length}`);
  assert.deepEqual(await withoutData(rig, expressions), []);

  const { groups } = await rig.prometheus.api("/api/v1/rules") as {
    groups: { rules: { name: string; health: string; lastError?: string }[] }[];
  };
  const rules = groups.flatMap((group) => group.rules);
  assert.ok(rules.length > 10);
  for (const { name, health, lastError } of rules) {
    assert.notEqual(health, "err", `${name}: ${lastError}`);
  }
});

Deno.test("one CPU worker has data in every expression that is not about a gateway or a budget", async (t) => {
  const tools = await findPrometheus();
  if (typeof tools === "string") return await notRun(t, `there is no Prometheus: ${tools}`);
  await using rig = await startRig(tools, { workers: 1, global: { runtime: { backend: "cpu" } } });
  const expressions = allExpressions();
  const own = expressions.filter(({ panel, text }) =>
    !text.includes("gateway_") && !ONLY_WITH_A_BUDGET.includes(panel)
  );
  assert.ok(own.length > 45, `${own.length}`);
  assert.deepEqual(await withoutData(rig, own), []);
  // A CPU's device has the size of the memory there is, and nothing in it but what is known to be.
  // The last scrape may have failed on a busy machine, which leaves no value of that moment.
  const value = async (name: string) =>
    Number((await rig.prometheus.query(`last_over_time(${name}[10m])`))[0]!.value[1]);
  const [inUse, peak, limit, weights] = [
    await value("worker_device_memory_in_use_bytes"),
    await value("worker_device_memory_peak_in_use_bytes"),
    await value("worker_device_memory_limit_bytes"),
    await value("worker_resident_weight_bytes"),
  ];
  assert.ok(weights > 0 && inUse >= weights && inUse < 2 * weights, `${inUse}, ${weights}`);
  assert.ok(peak > weights, `dispatches need memory too: ${peak}, ${weights}`);
  assert.ok(limit > inUse && limit <= Deno.systemMemoryInfo().total, `${limit}`);
});

/** Panels about how full the budget is, which says nothing where there is none. */
const ONLY_WITH_A_BUDGET = ["Device Memory Anatomy / On-demand budget utilization"];
/** Heavy ones, besides the others. */
const MODELS = 2;

interface Rig extends AsyncDisposable {
  readonly prometheus: Prometheus;
  readonly load: Load;
}

/** A node under load, with a Prometheus that scrapes it. */
async function startRig(
  tools: PrometheusTools,
  options: Pick<Parameters<typeof startNode>[0], "workers" | "global" | "env">,
): Promise<Rig> {
  await using stack = new AsyncDisposableStack();
  const scratch = stack.use(await temporaryDirectory());
  const modelRepo = join(scratch.path, "models");
  await Deno.mkdir(modelRepo);
  await writeSoakModels(modelRepo, MODELS);
  const node = stack.use(await startNode({ folder: scratch.path, modelRepo, ...options }));
  const prometheus = stack.use(
    await startPrometheus(tools, {
      target: `127.0.0.1:${node.httpPort}`,
      rules: join(folder, "alerts.yml"),
    }),
  );
  const load = stack.use(startLoad(node));
  const rest = stack.move();
  return { prometheus, load, [Symbol.asyncDispose]: () => rest.disposeAsync() };
}

interface PanelExpression {
  /** Its dashboard and title. */
  readonly panel: string;
  readonly text: string;
}

/** Of every panel, and what every choice at the top of a dashboard is made from. */
function allExpressions(): PanelExpression[] {
  return DASHBOARDS.flatMap((dashboard) => [
    ...dashboard.variables.map(({ name, series }) => ({
      panel: `${dashboard.title} / $${name}`,
      text: `count by (${name}) (${series}{${name}!=""})`,
    })),
    ...Array.from(queriesOf(dashboard), ({ panel, expression }) => ({
      panel: `${dashboard.title} / ${panel}`,
      text: fillIn(expression),
    })),
  ]);
}

/**
 * Those that have no data however long one waits. Wrong PromQL fails at once.
 * @throws {Error} with Prometheus' words
 */
async function withoutData(
  { prometheus, load }: Rig,
  expressions: readonly PanelExpression[],
): Promise<string[]> {
  const pending = new Set(expressions);
  const endMs = performance.now() + DATA_WITHIN_MS;
  for (;;) {
    for (const expression of pending) {
      if ((await prometheus.query(expression.text)).length > 0) pending.delete(expression);
    }
    if (pending.size === 0 || performance.now() > endMs) break;
    load.check();
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  return Array.from(pending, ({ panel, text }) => `${panel}: ${text}`);
}

/** Variables as Grafana fills them in when all that can be chosen is, with windows that hold the whole test. */
function fillIn(expression: string): string {
  return expression
    .replaceAll("$__rate_interval", "10m")
    .replaceAll("$__range", "10m")
    .replaceAll("$worker", ".*")
    .replaceAll('model="$model"', 'model="heavy0"')
    .replaceAll("$model", ".*");
}

/** Requests of every model, which keep coming until it is disposed. */
interface Load extends AsyncDisposable {
  /** Throws when they have stopped coming. */
  check(): void;
}

function startLoad(node: SoakNode): Load {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--no-check", join(root, "main.ts"), "loadgen"],
      ...["--gateway", `127.0.0.1:${node.grpcPort}`, "--metrics", "off", "--rate", "60"],
      ...["--batch-mode", "rows", "--sweep-every", "1", "--deadline-seconds", "60"],
    ],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  let ended: string | undefined;
  const end = Promise.all([child.status, new Response(child.stderr).text()])
    .then(([{ code }, text]) => ended = `the load generator ended with ${code}: ${text}`);
  return {
    check() {
      if (ended !== undefined) throw new Error(ended);
    },
    async [Symbol.asyncDispose]() {
      if (ended === undefined) child.kill("SIGTERM");
      const timer = setTimeout(() => ended ?? child.kill("SIGKILL"), 300_000);
      await end;
      clearTimeout(timer);
    },
  };
}
