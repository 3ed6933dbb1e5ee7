/** The portable file, built here and used the way someone uses it who has nothing but that file. */
import assert from "node:assert/strict";
import { copyFileSync, cpSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { writePortable } from "../../scripts/compile/portable.ts";
import { type Stage, stageProgram } from "../../scripts/compile/stage.ts";
import { startNode } from "../harness/node.ts";
import { runPython } from "../harness/python.ts";
import { writeEchoBundles } from "../python/echo_bundles.ts";

const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const digits = `${root}/examples/digits/bundle`;
const plugin = `${root}/.cache/pjrt/xla_cpu_pjrt.so`;
/** Where a request for anything of the network fails at once. */
const NO_NETWORK = {
  HTTP_PROXY: "http://127.0.0.1:9",
  HTTPS_PROXY: "http://127.0.0.1:9",
  NO_PROXY: "127.0.0.1,localhost",
  NPM_CONFIG_REGISTRY: "http://127.0.0.1:9",
};

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a file with these variables, a plain PATH and no others. */
async function run(file: string, args: string[], env: Record<string, string>): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(file, {
    args,
    clearEnv: true,
    env: { PATH: "/usr/bin:/bin", ...env },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout).trim(), err: decoder.decode(stderr).trim() };
}

/** Names in a folder that are not the lock every unpacking takes. */
function entriesOf(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => name !== ".lock");
}

Deno.test("the portable file", async (t) => {
  const folder = Deno.makeTempDirSync({ prefix: "portable test " });
  const fresh = (name: string) => {
    const path = `${folder}/${name}`;
    Deno.mkdirSync(path);
    return path;
  };
  const bin = fresh("bin");
  const file = `${bin}/reactantserver`;
  /** The same program with a shell script for Deno, which is unpacked in no time. */
  const light = `${bin}/light`;
  let stage: Stage;
  let version = "";
  const answers = (outcome: Outcome) =>
    assert.deepEqual(outcome, { code: 0, out: version, err: "" });
  const starts = (outcome: Outcome) =>
    assert.deepEqual(outcome, { code: 0, out: "started", err: "" });
  try {
    await t.step("is built of the locked program and answers without a network", async () => {
      stage = await stageProgram({ root, target: fresh("stage") });
      const cacheFolder = `${root}/.cache/compile`;
      await writePortable({ stage, output: file, deno: Deno.execPath(), cacheFolder, level: 1 });
      const script = `${fresh("light")}/deno`;
      Deno.writeTextFileSync(
        script,
        '#!/bin/sh\ncase "$*" in *space-size=7*) echo bounded ;; *) echo started ;; esac\n',
      );
      await writePortable({ stage, output: light, deno: script, cacheFolder: folder });
      // The file alone has to do from here on.
      Deno.removeSync(stage.folder, { recursive: true });
      const home = fresh("first home");
      const first = await runIsolated(file, { HOME: home });
      assert.deepEqual([first.code, first.err], [0, ""]);
      version = first.out;
      assert.ok(version.startsWith(`reactantserver ${stage.version} (commit ${stage.commit}, `));
      assert.match(version, /^reactantserver \S+ \(commit \S+, portable, Deno 2\.8\.3\)$/);
    });

    await t.step("unpacks once, for processes that start together", async () => {
      const env = { HOME: fresh("shared home") };
      const outcomes = await Promise.all(
        [1, 2, 3, 4, 5, 6].map(() => run(light, ["--version"], env)),
      );
      for (const outcome of outcomes) starts(outcome);
      const cache = `${env.HOME}/.cache/reactantserver`;
      const [unpacked, ...others] = entriesOf(cache);
      assert.match(unpacked!, /^[0-9a-f]{64}$/);
      assert.deepEqual(others, []);
      // Kept for the next start: not written again.
      const before = Deno.statSync(`${cache}/${unpacked}/deno`).mtime;
      starts(await run(light, ["--version"], env));
      assert.deepEqual(Deno.statSync(`${cache}/${unpacked}/deno`).mtime, before);
    });

    await t.step("repairs what a killed unpacking or a cleaner left", async () => {
      const cache = fresh("repaired");
      const env = { REACTANTSERVER_UNPACK_DIR: cache };
      const child = new Deno.Command("setsid", {
        args: [light, "--version"],
        clearEnv: true,
        env: { PATH: "/usr/bin:/bin", ...env },
        stdout: "null",
        stderr: "null",
      }).spawn();
      const isUnpacking = () => entriesOf(cache).some((name) => name.startsWith(".partial-"));
      let isOver = false;
      const ended = child.status.then(() => isOver = true);
      while (!isUnpacking() && !isOver) await new Promise((resolve) => setTimeout(resolve, 1));
      // The whole group: the shell and the tools it started.
      if (!isOver) Deno.kill(-child.pid as number, "SIGKILL");
      await ended;
      starts(await run(light, ["--version"], env));
      const [unpacked, ...others] = entriesOf(cache);
      assert.deepEqual(others, []);
      const damages = [
        () => Deno.truncateSync(`${cache}/${unpacked}/deno`, 1),
        // Without a check of its own an empty program does nothing, successfully.
        () => Deno.truncateSync(`${cache}/${unpacked}/program/main.ts`, 0),
        () => Deno.removeSync(`${cache}/${unpacked}/program/src/cli/commands/ctl.ts`),
      ];
      for (const damage of damages) {
        damage();
        starts(await run(light, ["--version"], env));
        assert.deepEqual(entriesOf(cache), [unpacked]);
        assert.ok(Deno.statSync(`${cache}/${unpacked}/program/src/cli/commands/ctl.ts`).isFile);
      }
      // A full disk, for as far as a process can have one of its own.
      const small = fresh("small");
      const limited = 'ulimit -f 1000; exec "$0" --version';
      const full = await run("/bin/sh", ["-c", limited, file], {
        REACTANTSERVER_UNPACK_DIR: small,
      });
      assert.equal(full.code, 1);
      assert.match(full.err, /\/small: .*\(is the disk full\?\)/);
      assert.deepEqual(entriesOf(small), []);
    });

    await t.step("finds a folder, or says what is wrong with each", async () => {
      const shared = { XDG_CACHE_HOME: `${folder}/shared home/.cache` };
      starts(await run(light, ["--version"], { ...shared, HOME: "/proc/nobody" }));
      const temporary = fresh("temporary");
      starts(await run(light, ["--version"], { HOME: "/proc/nobody", TMPDIR: temporary }));
      const [own] = entriesOf(temporary);
      assert.match(own!, /^reactantserver-\d+$/);
      // Others could have put anything there.
      Deno.chmodSync(`${temporary}/${own}`, 0o777);
      const refused = await run(light, ["--version"], { HOME: "/proc/nobody", TMPDIR: temporary });
      assert.equal(refused.code, 1);
      assert.equal(refused.out, "");
      assert.match(refused.err, /^reactantserver: found no folder to unpack into:/);
      assert.match(refused.err, /\/proc\/nobody\/\.cache\/reactantserver: cannot be created/);
      assert.match(refused.err, /temporary\/reactantserver-\d+: .*can be written by, others/);
      assert.match(refused.err, /REACTANTSERVER_UNPACK_DIR=\/\S+/);
      const named = await run(light, [], { REACTANTSERVER_UNPACK_DIR: "/proc/x", TMPDIR: folder });
      assert.match(named.err, /\/proc\/x: cannot be created/);
      assert.doesNotMatch(named.err, /reactantserver-\d+:/);
    });

    await t.step("refuses to unpack when a byte of it changed, or its end is missing", async () => {
      const damaged = `${bin}/damaged`;
      for (const isCut of [false, true]) {
        copyFileSync(light, damaged);
        const { size } = Deno.statSync(damaged);
        if (isCut) Deno.truncateSync(damaged, size - 1);
        else {
          using opened = Deno.openSync(damaged, { write: true });
          opened.seekSync(size >> 1, Deno.SeekMode.Start);
          opened.writeSync(new TextEncoder().encode("damage"));
        }
        const cache = fresh(`of damaged ${isCut}`);
        const { code, err } = await run(damaged, [], { REACTANTSERVER_UNPACK_DIR: cache });
        assert.equal(code, 1);
        assert.match(err, /damaged is damaged or cut short/);
        assert.deepEqual(entriesOf(cache), []);
      }
    });

    const env = { XDG_CACHE_HOME: `${folder}/first home/.cache` };
    await t.step(
      "passes arguments and exit codes on, from any folder and through links",
      async () => {
        Deno.symlinkSync(file, `${folder}/a link`);
        answers(await run(`${folder}/a link`, ["--version"], env));
        answers(
          await run("/bin/sh", ["-c", 'cd "$1" && ./reactantserver --version', "sh", bin], env),
        );
        const wrong = await run(file, ["--port", "a b"], env);
        assert.deepEqual([wrong.code, wrong.out], [2, ""]);
        assert.match(wrong.err, /--port must be an integer from 1 to 65535, got "a b"/);
        const bounded = {
          HOME: fresh("bounded"),
          REACTANTSERVER_V8_FLAGS: "--max-old-space-size=7",
        };
        assert.equal((await run(light, [], bounded)).out, "bounded");
        // Its plugin is looked for beside the file itself.
        const missing = await run(
          `${folder}/a link`,
          ["--backend", "cpu", "--model-dir", bin],
          env,
        );
        assert.ok(missing.err.includes(`looked for ${Deno.realPathSync(bin)}/pjrt/`), missing.err);
      },
    );

    await t.step("serves as a node: hooks, tritonclient, shared memory, metrics", async () => {
      const models = fresh("models");
      const echoes = fresh("echoes");
      await writeEchoBundles(echoes);
      Deno.renameSync(`${echoes}/strings`, `${models}/strings`);
      cpSync(`${digits}/digits`, `${models}/digits`, { recursive: true });
      await using node = startNode({
        program: file,
        modelRepo: models,
        workers: 2,
        env: { ...env, ...NO_NETWORK, REACTANT_PJRT_PLUGIN: plugin },
      });
      for (const part of ["worker0", "worker1", "node"]) {
        await node.waitForLine(new RegExp(`^\\[supervisor\\] ${part} is ready`));
      }
      const url = `127.0.0.1:${node.grpcPort}`;
      const echo = await runPython("tests/python/strings_client.py", [url, "one", "", "größer"]);
      assert.deepEqual(JSON.parse(echo.stdout), ["one", "", "größer"], echo.stderr);
      const classified = await runPython("examples/digits/client_classify.py", ["--url", url]);
      assert.match(classified.stdout, /accuracy 0\.9/, classified.stderr);
      // What clients of a package share with its workers is no file that just anybody may read.
      const load = await run(file, [
        ...["loadgen", "--gateway", url, "--metrics", `http://127.0.0.1:${node.httpPort}/metrics`],
        ...["--models", "digits", "--transport", "shm", "--duration-seconds", "1"],
      ], { ...env });
      assert.deepEqual([load.code, load.err], [0, ""], load.out);
      assert.match(load.out, /loadgen: OK: \d+ requests/);
      // Deno hands out what these stand on, /proc, to nobody with less than all permissions.
      const metrics = await (await fetch(`http://127.0.0.1:${node.httpPort}/metrics`)).text();
      for (const name of ["worker0", "worker1", "gateway"]) {
        for (const family of ["process_resident_memory_bytes", "process_open_fds"]) {
          assert.match(metrics, new RegExp(`^${family}\\{worker="${name}"\\} [1-9]`, "m"));
        }
      }
      // Straight to the process that was started, and from it to its children: no shell in between.
      const command = (pid: number) =>
        Deno.readTextFileSync(`/proc/${pid}/cmdline`).split("\0")[0]!;
      const processes = [node.pid, ...childrenOf(node.pid)]
        .filter((pid) => /\/[0-9a-f]{64}\/deno$/.test(command(pid)));
      assert.equal(processes.length, 4, node.lines.join("\n"));
      for (const pid of processes) {
        const variables = Deno.readTextFileSync(`/proc/${pid}/environ`).split("\0");
        assert.ok(variables.includes(`REACTANTSERVER_FILE=${file}`));
      }
      node.kill("SIGTERM");
      const { code, signal } = await node.exited;
      assert.deepEqual([code, signal], [0, null], node.lines.join("\n"));
      for (const pid of processes) assert.throws(() => Deno.statSync(`/proc/${pid}`));
    });
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

/** `--version` with no network at all, where the machine lets us have that. */
async function runIsolated(file: string, env: Record<string, string>): Promise<Outcome> {
  const isolation = ["--net", "--map-root-user"];
  const { code, err } = await run("/usr/bin/unshare", [...isolation, "/bin/true"], {});
  if (code === 0) return run("/usr/bin/unshare", [...isolation, file, "--version"], env);
  console.log(`started with a network: this machine isolates none (${err})`);
  return run(file, ["--version"], { ...env, ...NO_NETWORK });
}

/** Processes that a process started itself. */
function childrenOf(pid: number): number[] {
  return [...Deno.readDirSync(`/proc/${pid}/task`)].flatMap(({ name }) =>
    Deno.readTextFileSync(`/proc/${pid}/task/${name}/children`).split(" ").filter(Boolean).map(
      Number,
    )
  );
}
