/** scripts/deno with a stand-in for npm: what a first start, a broken one and two at once leave. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

const scripts = fileURLToPath(new URL(".", import.meta.url));

/** The Deno that the stand-in for npm "installs" says where Deno's and npm's caches are. */
const DENO = '#!/bin/sh\\necho "deno $* DENO_DIR=${DENO_DIR-} npm=${npm_config_cache-}"\\n';
const INSTALL = `
  while [ "$1" != --prefix ]; do shift; done
  bin="$2/node_modules/@deno/linux-x64-glibc"
  mkdir -p "$bin"
  printf 'half' >"$bin/deno"
  chmod +x "$bin/deno"
  `;
const WHOLE = `${INSTALL} printf '${DENO}' >"$bin/deno"`;

Deno.test("scripts/deno installs the pinned Deno once and runs it", async () => {
  await using checkout = new Checkout(`echo once >>"$HOME/installs"; ${WHOLE}`);
  const first = await checkout.run(["task", "serve"]);
  assert.equal(first.stdout, "deno task serve DENO_DIR= npm=\n", first.stderr);
  assert.match(first.stderr, /installing Deno 2\.0\.1 from npm/);
  const second = await checkout.run(["--version"]);
  assert.deepEqual([second.code, second.stderr], [0, ""]);
  assert.equal(checkout.read("home/installs"), "once\n");
});

Deno.test("scripts/deno never runs half of a Deno, and of two first starts one waits for the other", async () => {
  // With half of a Deno on the disk, until the other one has come.
  await using checkout = new Checkout(`${INSTALL}
    echo once >>"$HOME/installs"
    until [ -e "$HOME/waiting" ]; do sleep 0.01; done
    printf '${DENO}' >"$bin/deno"`);
  // What lies in its place, of a copy that was broken off, is no Deno.
  Deno.mkdirSync(`${checkout.folder}/.cache/deno-2.0.1/node_modules`, { recursive: true });
  const [first, second] = await Promise.all([0, 1].map(() =>
    checkout.run([], (stderr) => {
      if (stderr.includes("waiting for it")) {
        Deno.writeTextFileSync(`${checkout.folder}/home/waiting`, "");
      }
    })
  ));
  for (const { code, stdout, stderr } of [first!, second!]) {
    assert.deepEqual([code, stdout], [0, "deno  DENO_DIR= npm=\n"], stderr);
  }
  assert.equal(checkout.read("home/installs"), "once\n");
});

Deno.test("scripts/deno goes on after it was interrupted", async () => {
  await using checkout = new Checkout(`${INSTALL} kill -INT "$PPID"; exit 1`);
  const { code, signal } = await checkout.run();
  assert.ok(code !== 0, `${signal}`);
  checkout.npm(WHOLE);
  assert.match((await checkout.run()).stdout, /^deno /);
  assert.deepEqual(checkout.cache(), ["deno-2.0.1", "deno-2.0.1.lock"]);
});

Deno.test("scripts/deno says what npm said, and what to do", async () => {
  await using checkout = new Checkout('echo "npm ERR! code ENOTFOUND" >&2; exit 1');
  const { code, stderr } = await checkout.run();
  assert.equal(code, 1);
  assert.match(
    stderr,
    /code ENOTFOUND\nscripts\/deno: npm could not install Deno 2\.0\.1.*network/,
  );
  checkout.npm('mkdir -p "$6/node_modules"');
  assert.match((await checkout.run()).stderr, /npm has no Deno 2\.0\.1 binary for this platform/);
});

Deno.test("scripts/deno keeps the caches in the checkout where there is no home to write to", async () => {
  await using checkout = new Checkout(WHOLE);
  const { folder } = checkout;
  for (const HOME of ["/proc/nowhere", ""]) {
    checkout.env = { HOME };
    const { stdout, stderr } = await checkout.run();
    assert.equal(stdout, `deno  DENO_DIR=${folder}/.cache/deno npm=${folder}/.cache/npm\n`, stderr);
  }
  checkout.env = { HOME: "/proc/nowhere", DENO_DIR: "/mine", npm_config_cache: "/mine too" };
  assert.equal((await checkout.run()).stdout, "deno  DENO_DIR=/mine npm=/mine too\n");
  checkout.env = { HOME: "/proc/nowhere", XDG_CACHE_HOME: `${folder}/home` };
  assert.equal((await checkout.run()).stdout, "deno  DENO_DIR= npm=\n");
});

interface Ended extends Deno.CommandStatus {
  readonly stdout: string;
  readonly stderr: string;
}

/** A folder with scripts/deno in it, a home, and a PATH on which `npm` is the script given. */
class Checkout implements AsyncDisposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "a checkout with spaces " });
  env: Record<string, string> = { HOME: `${this.folder}/home` };

  constructor(npm: string) {
    for (const name of ["scripts", "bin", "home", ".cache"]) {
      Deno.mkdirSync(`${this.folder}/${name}`);
    }
    Deno.copyFileSync(`${scripts}deno`, `${this.folder}/scripts/deno`);
    Deno.writeTextFileSync(`${this.folder}/.deno-version`, "2.0.1\n");
    this.npm(npm);
  }

  npm(script: string): void {
    Deno.writeTextFileSync(`${this.folder}/bin/npm`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }

  /** Runs it to its end; `onStderr` is told what it has said so far. */
  async run(args: string[] = [], onStderr: (text: string) => void = () => {}): Promise<Ended> {
    const child = new Deno.Command(`${this.folder}/scripts/deno`, {
      args,
      clearEnv: true,
      env: { PATH: `${this.folder}/bin:/usr/bin:/bin`, ...this.env },
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    let stderr = "";
    const listening = (async () => {
      for await (const part of child.stderr.pipeThrough(new TextDecoderStream())) {
        onStderr(stderr += part);
      }
    })();
    const stdout = await new Response(child.stdout).text();
    await listening;
    return { ...await child.status, stdout, stderr };
  }

  read(name: string): string {
    return Deno.readTextFileSync(`${this.folder}/${name}`);
  }

  cache(): string[] {
    return [...Deno.readDirSync(`${this.folder}/.cache`)].map(({ name }) => name).sort();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Deno.remove(this.folder, { recursive: true });
  }
}
