/**
 * A loaded node and a Prometheus with the configuration of `docker/prometheus/` that scrapes it, for as long
 * as the command runs that the arguments are. It is told in variables where things are.
 */

import process from "node:process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { freePort } from "../../tests/harness/ports.ts";
import { findPrometheus, run } from "../../tests/harness/prometheus.ts";
import { until } from "../../tests/harness/until.ts";
import { writeSoakModels } from "../soak/models.ts";
import { startNode } from "../soak/node.ts";
import { RIGS } from "../soak/rigs.ts";

const docker = fileURLToPath(new URL("../../docker/", import.meta.url));
/** Is no regular expression, and no other would match it. */
const ODD_MODEL = "odd.c++(v1)";
/** Of 15 s each: enough for a rate over a minute. */
const SCRAPES = 6;

const say = (text: string) => console.error(`[try_grafana] ${text}`);
const tools = await findPrometheus();
if (typeof tools === "string") throw new Error(`there is no Prometheus: ${tools}`);

say("a node and its Prometheus");
await using stack = new AsyncDisposableStack();
const folder = await Deno.makeTempDir({ prefix: "try-grafana-node-" });
stack.defer(() => Deno.remove(folder, { recursive: true }));
const modelRepo = join(folder, "models");
await Deno.mkdir(modelRepo);
await writeSoakModels(modelRepo, 2);
await run("cp", ["-r", join(modelRepo, "heavy0"), join(modelRepo, ODD_MODEL)]);
const node = stack.use(
  await startNode({
    folder,
    modelRepo,
    workers: RIGS.pair.workers,
    global: RIGS.pair.global(3),
    env: {
      ...RIGS.pair.env(20),
      REACTANT_GATEWAY_SCHEDULING_REBALANCE_COMPUTE_SECONDS: "0.2",
    },
  }),
);

const [port, configuration] = [freePort(), join(folder, "prometheus")];
await run("cp", ["-r", join(docker, "prometheus"), configuration]);
const file = join(configuration, "prometheus.yml");
await Deno.writeTextFile(
  file,
  (await Deno.readTextFile(file))
    .replace("host.docker.internal:8002", `127.0.0.1:${node.httpPort}`)
    .replace("localhost:9090", `127.0.0.1:${port}`),
);
startChild(tools.prometheus, [
  `--config.file=${file}`,
  `--storage.tsdb.path=${join(folder, "data")}`,
  `--web.listen-address=127.0.0.1:${port}`,
]);
startChild(Deno.execPath(), [
  ...[
    "run",
    "-A",
    "--quiet",
    "--no-check",
    fileURLToPath(new URL("../../main.ts", import.meta.url)),
  ],
  ...["loadgen", "--gateway", `127.0.0.1:${node.grpcPort}`, "--metrics", "off", "--rate", "20"],
  ...["--batch-mode", "rows", "--sweep-every", "1", "--deadline-seconds", "60"],
]);

say(`${SCRAPES} scrapes under load`);
const enough = `count_over_time(up{job="reactantserver"}[1h]) >= ${SCRAPES}`;
await until(
  async () => {
    try {
      const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(enough)}`;
      return (await (await fetch(url)).json()).data.result.length > 0;
    } catch {
      // Not listening yet.
      return false;
    }
  },
  "Prometheus has enough",
  1000,
);

say("the dashboards");
const { datasources } = parse(
  await Deno.readTextFile(join(docker, "grafana/provisioning/datasources/prometheus.yaml")),
);
const [program, ...args] = Deno.args;
const { code } = await new Deno.Command(program!, {
  args,
  env: {
    PROMETHEUS_URL: `http://127.0.0.1:${port}`,
    DATA_SOURCE: JSON.stringify(datasources[0]),
    DASHBOARDS: join(docker, "grafana/dashboards"),
    ODD_MODEL,
  },
}).spawn().status;
process.exitCode = code;

function startChild(command: string, args: string[]): void {
  const child = new Deno.Command(command, {
    args,
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  stack.defer(async () => {
    child.kill("SIGKILL");
    await child.status;
  });
}
