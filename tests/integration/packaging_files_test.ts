/** The container, service and cluster files, checked by the tools made for them and against the program. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { parse, parseAllDocuments } from "yaml";
import { GATEWAY_ROWS, loadGatewayConfig } from "../../src/config/mod.ts";
import { checkVariables } from "../../src/config/environment.ts";
import { LOADGEN_SETTINGS } from "../../src/loadgen/mod.ts";
import { notRun } from "../harness/not_run.ts";
import { composeSchema, packagingTools } from "../harness/packaging_tools.ts";

const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const docker = `${root}/docker`;

interface Outcome {
  readonly code: number;
  readonly text: string;
}

async function run(
  command: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, env, cwd: root })
    .output();
  const decoder = new TextDecoder();
  return { code, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

const read = (path: string) => Deno.readTextFileSync(`${docker}/${path}`);

/** A template with its commented-out settings switched on. */
function uncommented(text: string): string {
  return text.split("\n").map((line) => line.replace(/^( *)# ( *(?:- |[a-z_0-9]+:).*)$/, "$1$2"))
    .join("\n");
}

function dockerFiles(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
    isDirectory
      ? (["grafana", "prometheus", "certs"].includes(name) ? [] : dockerFiles(`${folder}/${name}`))
      : [`${folder}/${name}`]
  );
}

Deno.test("hadolint and shellcheck have nothing against the image's files", async (t) => {
  const tools = await packagingTools(t);
  if (tools === undefined) return;
  const scripts = dockerFiles(docker).filter((path) => path.endsWith(".sh"));
  assert.ok(scripts.length >= 4);
  const header = Deno.makeTempFileSync({ suffix: ".sh" });
  try {
    const text = Deno.readTextFileSync(`${root}/scripts/compile/portable_header.sh`);
    Deno.writeTextFileSync(header, text.replaceAll(/@[A-Z_]+@/g, "1"));
    const results = [
      await run(`${tools}/hadolint`, [`${docker}/Dockerfile`]),
      await run(`${tools}/shellcheck`, [
        ...[...scripts, header],
        ...["deno", "python/setup", "setup"].map((name) => `${root}/scripts/${name}`),
        ...[...Deno.readDirSync(`${root}/scripts/try_image`)].map(({ name }) =>
          `${root}/scripts/try_image/${name}`
        ),
        `${root}/scripts/try_grafana/run`,
      ]),
    ];
    assert.deepEqual(results, [{ code: 0, text: "" }, { code: 0, text: "" }]);
  } finally {
    Deno.removeSync(header);
  }
});

Deno.test("the compose files fit the Compose specification", async (t) => {
  const [tools, schema] = [await packagingTools(t), await composeSchema(t)];
  if (tools === undefined || schema === undefined) return;
  // A key that an override takes away counts as one that is not there.
  const script = `import json, sys, jsonschema, yaml
yaml.SafeLoader.add_constructor("!reset", lambda loader, node: None)
schema = json.load(open(sys.argv[1]))
validator = jsonschema.validators.validator_for(schema)(schema)
for path in sys.argv[2:]:
    for error in validator.iter_errors(yaml.safe_load(open(path))):
        print(path, error.json_path, error.message)`;
  const files = dockerFiles(docker).filter((path) => /docker-compose.*\.yml$/.test(path));
  assert.ok(files.length >= 5);
  const result = await run(`${tools}/python`, ["-c", script, schema, ...files]);
  assert.deepEqual(result, { code: 0, text: "" });
});

Deno.test("what the compose files mount and build is there", () => {
  for (const path of dockerFiles(docker).filter((path) => /docker-compose.*\.yml$/.test(path))) {
    const { services, volumes = {} } = parse(Deno.readTextFileSync(path), {
      customTags: [{ tag: "!reset", resolve: () => null }],
    });
    const stages = [...read("Dockerfile").matchAll(/^FROM \S+ AS (\S+)$/gm)].map(([, name]) =>
      name
    );
    for (const service of Object.values<Record<string, unknown>>(services)) {
      const build = service["build"] as
        | { dockerfile?: string; target?: string; args?: string[] }
        | undefined;
      if (build?.dockerfile !== undefined) {
        assert.ok(Deno.statSync(`${root}/${build.dockerfile}`).isFile);
      }
      if (build?.target !== undefined) assert.ok(stages.includes(build.target), build.target);
      for (const name of build?.args ?? []) {
        assert.match(read("Dockerfile"), new RegExp(`^ARG ${name}=`, "m"));
      }
      for (const mount of service["volumes"] as string[] ?? []) {
        // `${NAME:-default}` would be cut at its own colon.
        const source = mount.replace(/^\$\{\w+:-([^}]*)\}/, "$1").split(":")[0]!;
        if (source === "./bundles") continue;
        if (source.startsWith("./")) Deno.statSync(`${docker}/${source}`);
        else assert.ok(source in volumes, `${source} of ${path}`);
      }
    }
  }
});

Deno.test("the Dockerfile copies only what there is and what .dockerignore lets through", () => {
  const text = read("Dockerfile");
  const ignored = Deno.readTextFileSync(`${root}/.dockerignore`).split("\n");
  for (const [, arguments_] of text.matchAll(/^COPY (?!--from)(.+)$/gm)) {
    const paths = arguments_!.split(" ").filter((word) => !word.startsWith("--")).slice(0, -1);
    for (const path of paths) {
      Deno.statSync(`${root}/${path}`);
      if (path !== ".") assert.ok(ignored.includes(`!${path.split("/")[0]}`), path);
    }
  }
  // Everything the compile step reads.
  for (const path of ["main.ts", "deno.json", "deno.lock", "LICENSE", "src", "ffi", "scripts"]) {
    assert.ok(ignored.includes(`!${path}`), path);
  }
  const version = Deno.readTextFileSync(`${root}/.deno-version`).trim();
  assert.ok(text.includes(`ARG DENO_VERSION=${version}\n`));
});

Deno.test("every build of the CUDA image has the same libraries, and the tried image the same bases", () => {
  for (const file of ["requirements-cuda12.txt", "requirements-cuda13.txt"]) {
    const lines = read(`cuda/${file}`).trim().split("\n").filter((line) => !line.startsWith("#"));
    assert.ok(lines.length > 10);
    assert.deepEqual(
      lines.filter((line) => !/^[a-z0-9-]+==\d+\.\d+\.[\d.]*\d$/.test(line)),
      [],
    );
  }
  // What the CPU image is made of; the Python one is for the CUDA libraries alone.
  const bases = [...read("Dockerfile").matchAll(/^FROM (\S+:\S+) AS/gm)].map(([, name]) => name!)
    .filter((name) => !name.startsWith("python:"));
  const tried = Deno.readTextFileSync(`${root}/scripts/try_image/run`);
  assert.deepEqual(
    [...tried.matchAll(/^base (\S+) /gm)].map(([, name]) => name).sort(),
    bases.sort(),
  );
});

Deno.test("make builds stages that exist, with the engine and names given", async (t) => {
  const stages = [...read("Dockerfile").matchAll(/^FROM \S+ AS (\S+)$/gm)].map(([, name]) => name);
  try {
    for (const target of ["image", "cpu", "loadgen", "clean", "help"]) {
      const args = ["-n", "-C", docker, "--no-print-directory", target, "ENGINE=engine"];
      const { code, text } = await run("make", args);
      assert.equal(code, 0, text);
      if (target === "help") continue;
      assert.match(
        text,
        target === "clean" ? /^engine rmi / : /^engine build -f Dockerfile .* \.\.$/m,
      );
      const stage = text.match(/--target (\S+)/)?.[1];
      if (stage !== undefined) assert.ok(stages.includes(stage), stage);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    await notRun(t, "there is no make");
  }
});

Deno.test("every variable that the files mention exists", () => {
  const loadgen = Object.values(LOADGEN_SETTINGS).map(({ variable }) => variable);
  const unknown: string[] = [];
  for (const path of dockerFiles(docker)) {
    const text = Deno.readTextFileSync(path);
    for (
      const [name] of text.matchAll(/\b(REACTANT|INFERENCE_SERVER|LOADGEN)_[A-Z0-9_]*[A-Z0-9]\b/g)
    ) {
      if (name === "LOADGEN_IMAGE" || /<PATH>/.test(text) && name === "REACTANT_GATEWAY") continue;
      const isKnown = name.startsWith("LOADGEN_")
        ? loadgen.includes(name)
        : checkVariables({ [name]: "" }).length === 0;
      if (!isKnown) unknown.push(`${path.slice(root.length)}: ${name}`);
    }
  }
  assert.deepEqual(unknown, []);
});

Deno.test("the node files are valid, the template also with everything switched on", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    const texts: Record<string, string> = {
      ...Object.fromEntries(
        ["node.default.yaml", "node.yaml", "node.gpu2.yaml", "node.gpu23.yaml"].map((name) => [
          name,
          read(name),
        ]),
      ),
      "all.yaml": uncommented(read("node.yaml")),
      "kubernetes.yaml": parseAllDocuments(read("kubernetes/reactantserver.yaml"))
        .map((document) => document.toJS()).find(({ kind }) => kind === "ConfigMap")
        .data["node.yaml"],
    };
    assert.match(texts["all.yaml"]!, /^ +tls_client_ca:/m);
    for (const [name, text] of Object.entries(texts)) {
      const file = `${folder}/${name}`;
      // The template without a list gets the one that a supervisor would make.
      const workers = /^workers:/m.test(text) ? "" : "\nworkers: [{name: worker0}]\n";
      Deno.writeTextFileSync(file, text + workers);
      const { code, text: output } = await run(Deno.execPath(), [
        ...["run", "-A", "--quiet", "--no-check", "main.ts", "config", "print"],
        ...["--node-file", file, "--worker-name", "worker0"],
      ]);
      assert.equal(code, 0, `${name}: ${output}`);
      assert.doesNotMatch(output, /has no effect|unknown key/i);
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("gateway.yml is valid, also with everything switched on, and leaves out no key", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const all = uncommented(read("gateway.yml"));
    for (const text of [read("gateway.yml"), all]) {
      Deno.writeTextFileSync(`${folder}/gateway.yml`, text);
      const { config } = loadGatewayConfig({
        flags: new Map(),
        environment: {},
        gatewayFile: `${folder}/gateway.yml`,
      });
      assert.deepEqual(config.endpoints, ["worker0:8080", "worker1:8081"]);
    }
    const scheduling = Object.keys(GATEWAY_ROWS.scheduling);
    const given = Object.keys(parse(all).scheduling);
    const spelling = (key: string) =>
      key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    assert.deepEqual(given.toSorted(), [...scheduling.map(spelling), "models"].toSorted());
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("the Kubernetes manifests fit the API of a current cluster", async (t) => {
  const tools = await packagingTools(t);
  if (tools === undefined) return;
  const file = `${docker}/kubernetes/reactantserver.yaml`;
  const { code, text } = await run(`${tools}/kubernetes-validate`, ["--strict", file]);
  assert.equal(code, 0, text);
  const documents = parseAllDocuments(Deno.readTextFileSync(file)).map((one) => one.toJS());
  const deployment = documents.find(({ kind }) => kind === "Deployment");
  const service = documents.find(({ kind }) => kind === "Service");
  const monitor = parse(read("kubernetes/servicemonitor.yaml"));
  const labels = deployment.spec.template.metadata.labels;
  assert.deepEqual(deployment.spec.selector.matchLabels, labels);
  assert.deepEqual(service.spec.selector, labels);
  assert.deepEqual(monitor.spec.selector.matchLabels, service.metadata.labels);
  const [container] = deployment.spec.template.spec.containers;
  const ports = container.ports.map(({ name }: { name: string }) => name);
  for (const { targetPort } of service.spec.ports) assert.ok(ports.includes(targetPort));
  assert.equal(container.livenessProbe.httpGet.path, "/healthz");
  assert.equal(container.readinessProbe.httpGet.path, "/readyz");
  const volumes = deployment.spec.template.spec.volumes.map(({ name }: { name: string }) => name);
  for (const { name } of container.volumeMounts) assert.ok(volumes.includes(name), name);
  // With its root read-only the image needs these to be writable.
  assert.equal(container.securityContext.readOnlyRootFilesystem, true);
  const writable = container.volumeMounts
    .filter((mount: { readOnly?: boolean }) => mount.readOnly !== true)
    .map(({ mountPath }: { mountPath: string }) => mountPath);
  for (const path of ["/tmp", "/run/reactantserver", "/var/cache/reactantserver"]) {
    assert.ok(writable.includes(path), path);
  }
});

Deno.test("systemd understands the unit", async (t) => {
  const folder = Deno.makeTempDirSync();
  try {
    const unit = read("systemd/reactantserver.service");
    // The program and its user need not be installed here.
    const checked = unit.replace(/^ExecStart=\S+/m, "ExecStart=/bin/true")
      .replace(/^(User|Group)=.*$/gm, "$1=root");
    Deno.writeTextFileSync(`${folder}/reactantserver.service`, checked);
    const path = `${folder}/reactantserver.service`;
    const { text } = await run("systemd-analyze", ["verify", "--man=no", path]);
    // It may complain about other units of the machine too.
    assert.deepEqual(text.split("\n").filter((line) => line.includes("reactantserver")), []);
    // As root, which the check above needs, it would be far more exposed.
    Deno.writeTextFileSync(path, unit);
    const security = ["security", "--offline=yes", "--threshold=40", "--no-pager", path];
    const exposure = await run("systemd-analyze", security);
    assert.equal(exposure.code, 0, exposure.text);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    await notRun(t, "there is no systemd-analyze");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
