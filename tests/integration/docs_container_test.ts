/** What the checklist says of the container's files, read in them: nothing else can see it without an engine. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";

const docker = fileURLToPath(new URL("../../docker/", import.meta.url));
const read = (name: string) => Deno.readTextFileSync(docker + name);

/** A service of a compose file. */
interface Service {
  readonly build?: { readonly target?: string };
  readonly restart?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly healthcheck?: { readonly start_period?: string };
  readonly ipc?: string;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly deploy?: unknown;
}

function compose(name: string): { services: Record<string, Service>; volumes: object } {
  return parse(read(name), { customTags: [{ tag: "!reset", resolve: () => null }] });
}

Deno.test("the image: supervisor under tini, both ports, a health check after 300 s", () => {
  const text = read("Dockerfile").replaceAll(/\\\n\s*/g, "");
  const stages = text.split(/^(?=FROM )/m).slice(1);
  const base = stages.find((stage) => / AS base$/m.test(stage))!;
  // The last stage is the one that is built when none is named.
  assert.match(stages.at(-1)!, /^FROM base AS cuda$/m);
  assert.doesNotMatch(stages.at(-1)!, /^(ENTRYPOINT|HEALTHCHECK)/m);
  assert.match(base, /^ENTRYPOINT \["tini", "--", "entrypoint\.node\.sh"\]$/m);
  assert.match(base, /^EXPOSE 8001 8002$/m);
  assert.match(base, /^HEALTHCHECK .*--start-period=300s +CMD \["reactantserver", "healthcheck"/m);
  assert.match(base, /^COPY .*docker\/entrypoint\.worker\.sh \/usr\/local\/bin\/$/m);
  // The image declares no volume: compose would leave a nameless one behind each time it takes a stack down.
  assert.doesNotMatch(text, /^VOLUME/m);
  assert.match(base, /docker\/node\.default\.yaml \/etc\/reactantserver\/node\.yaml$/m);
});

Deno.test("the image's node file: every GPU, and no list of workers", () => {
  const node = parse(read("node.default.yaml"));
  assert.equal(node.gpus, "auto");
  assert.equal(node.workers, undefined);
  assert.equal(node.model_repo, "/var/lib/reactantserver/models");
});

Deno.test("the compose file says what the command line of docker run does", () => {
  const { services } = compose("docker-compose.yml");
  assert.deepEqual(Object.keys(services), ["reactantserver"]);
  const { ipc, ports, volumes, deploy, restart } = services["reactantserver"]!;
  assert.equal(restart, "unless-stopped");
  assert.equal(ipc, "host");
  assert.deepEqual(ports, ["8001:8001", "8002:8002"]);
  assert.match(volumes![0]!, /^\$\{REACTANTSERVER_MODELS.*:\/var\/lib\/reactantserver\/models:ro$/);
  assert.match(JSON.stringify(deploy), /"driver":"nvidia","count":"all","capabilities":\["gpu"\]/);
  assert.match(read("docker-compose.yml"), /start_period/);
});

Deno.test("the override for machines without GPUs asks for none, and builds the image for them", () => {
  const { services } = compose("docker-compose.cpu.yml");
  assert.deepEqual(Object.keys(services), ["reactantserver"]);
  const { build, deploy } = services["reactantserver"]!;
  assert.equal(build!.target, "cpu");
  assert.equal(deploy, null);
  assert.match(read("docker-compose.cpu.yml"), /^ {4}deploy: !reset null$/m);
});

for (
  const { name, devices, workers, mode } of [
    { name: "gpu2", devices: "2", workers: 1, mode: undefined },
    { name: "gpu23", devices: "2,3", workers: 2, mode: "lpt_packing" },
  ]
) {
  Deno.test(`the soak on ${name}: its devices, its node file, its load, programs that are kept`, () => {
    const { services, volumes } = compose(`docker-compose.${name}.yml`);
    const { reactantserver, loadgen } = services as Record<"reactantserver" | "loadgen", Service>;
    const { environment, volumes: mounts, ports } = reactantserver;
    assert.equal(environment!["CUDA_VISIBLE_DEVICES"], devices);
    assert.equal(environment!["REACTANT_GATEWAY_SCHEDULING_MODE"], mode);
    assert.ok(mounts!.includes(`./node.${name}.yaml:/etc/reactantserver/node.yaml:ro`));
    const [cache] = Object.keys(volumes);
    assert.ok(mounts!.includes(`${cache}:${environment!["INFERENCE_SERVER_CACHE_DIR"]}`));
    assert.deepEqual(ports, ["8001:8001", "8002:8002"]);
    // A soak is to show that a node died, not to hide it.
    assert.deepEqual([reactantserver.restart, loadgen.restart], [undefined, undefined]);
    assert.equal(loadgen.build!.target, "loadgen");
    assert.equal(
      loadgen.environment!["LOADGEN_DURATION_SECONDS"],
      "${LOADGEN_DURATION_SECONDS:-3600}",
    );
    assert.match(loadgen.environment!["LOADGEN_GATEWAY"]!, /reactantserver:8001$/);
    assert.match(loadgen.environment!["LOADGEN_METRICS"]!, /reactantserver:8002\/metrics$/);
    const node = parse(read(`node.${name}.yaml`));
    assert.equal(node.workers.length, workers);
    assert.equal(node.global.cache_dir, environment!["INFERENCE_SERVER_CACHE_DIR"]);
    if (mode === "lpt_packing") assert.equal(node.global.scheduler.discipline, "fifo");
  });
}
