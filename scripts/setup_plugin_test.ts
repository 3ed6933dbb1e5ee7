import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { installExample } from "./setup_models.ts";
import { installPlugin } from "./setup_plugin.ts";
import {
  type InstallOptions,
  type PinnedPlugin,
  type Reporter,
  SetupError,
} from "./setup_types.ts";

const PLUGIN_BYTES = new TextEncoder().encode("plugin ".repeat(50_000));
const HEADER_BYTES = new TextEncoder().encode("header");
const LINUX = { os: "linux", arch: "x86_64", env: "gnu" };

Deno.test("installPlugin() puts the pinned files in place and does nothing the second time", async () => {
  await using bench = await Bench.create();
  await installPlugin(bench.options());
  assert.deepEqual(Deno.readFileSync(`${bench.folder}/plugin.so`), PLUGIN_BYTES);
  assert.deepEqual(Deno.readFileSync(`${bench.folder}/header.h`), HEADER_BYTES);
  assert.equal(bench.downloads(), 1);
  await installPlugin(bench.options());
  assert.equal(bench.downloads(), 1);
  assert.deepEqual(bench.leftovers(), []);
});

Deno.test("installPlugin() makes itself a pip with venv where Python has none", async () => {
  await using bench = await Bench.create();
  const pip = Deno.readTextFileSync(`${bench.home}/python`);
  bench.script(`
    [ "$2" = pip ] && { echo "No module named pip" >&2; exit 1; }
    mkdir -p "$3/bin" && cp ${bench.home}/pip "$3/bin/python"`);
  Deno.writeTextFileSync(`${bench.home}/pip`, pip, { mode: 0o755 });
  await installPlugin(bench.options());
  assert.deepEqual(Deno.readFileSync(`${bench.folder}/plugin.so`), PLUGIN_BYTES);
  assert.deepEqual(bench.leftovers(), []);
});

Deno.test("installPlugin() recognises good files without a stamp and replaces damaged ones", async () => {
  await using bench = await Bench.create();
  await installPlugin(bench.options());
  Deno.removeSync(`${bench.folder}/.verified`);
  await installPlugin(bench.options());
  assert.equal(bench.downloads(), 1);
  Deno.writeTextFileSync(`${bench.folder}/plugin.so`, "damaged");
  await installPlugin(bench.options());
  assert.equal(bench.downloads(), 2);
  assert.deepEqual(Deno.readFileSync(`${bench.folder}/plugin.so`), PLUGIN_BYTES);
});

Deno.test("installPlugin() clears what an interrupted run left", async () => {
  await using bench = await Bench.create();
  Deno.mkdirSync(`${bench.folder}/.partial-dead/wheel`, { recursive: true });
  Deno.writeTextFileSync(`${bench.folder}/.partial-dead/wheel/half.whl`, "half");
  await installPlugin(bench.options());
  assert.deepEqual(bench.leftovers(), []);
});

Deno.test("installPlugin() downloads once when two runs overlap", async () => {
  await using bench = await Bench.create();
  await Promise.all([installPlugin(bench.options()), installPlugin(bench.options())]);
  assert.equal(bench.downloads(), 1);
  assert.ok(bench.lines.some((line) => line.includes("another setup is running")));
});

Deno.test("installPlugin() refuses a wheel or a file with the wrong digest and leaves nothing", async () => {
  await using bench = await Bench.create();
  const zeros = "0".repeat(64);
  await rejects(installPlugin(bench.options({ plugin: { ...bench.plugin, sha256: zeros } })), [
    /^the wheel of thing==1 has SHA-256 [0-9a-f]{64}, expected 0{64}/,
  ]);
  const files = bench.plugin.files.map((file) => ({ ...file, sha256: zeros }));
  await rejects(installPlugin(bench.options({ plugin: { ...bench.plugin, files } })), [
    /^plugin\.so has SHA-256/,
  ]);
  assert.deepEqual(bench.leftovers(), []);
  assert.deepEqual([...Deno.readDirSync(bench.folder)].map(({ name }) => name), [".lock"]);
});

Deno.test("installPlugin() says what is missing and what to do", async (t) => {
  const cases: Record<string, [script: string, expected: RegExp[]]> = {
    "neither pip nor venv": ['echo "/usr/bin/python3: No module named pip" >&2; exit 1', [
      /neither pip .*nor a working venv/,
      /No module named pip/,
      /apt install python3-venv/,
      /PYTHON=PATH/,
    ]],
    "no network": [
      failingDownload(
        "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError'\n" +
          "ERROR: No matching distribution found for thing==1",
      ),
      [/package index cannot be reached/, /REACTANT_PJRT_PLUGIN=PATH/],
    ],
    "not in the index": [failingDownload("ERROR: No matching distribution found for thing==1"), [
      /does not have it/,
    ]],
    "disk full": [
      failingDownload("ERROR: Could not install: [Errno 28] No space left on device"),
      [/no room left/],
    ],
    "something else": [failingDownload("Traceback\nValueError: odd"), [/ValueError: odd/]],
  };
  for (const [name, [script, expected]] of Object.entries(cases)) {
    await t.step(name, async () => {
      await using bench = await Bench.create();
      bench.script(script);
      await rejects(installPlugin(bench.options()), expected);
      assert.deepEqual(bench.leftovers(), []);
    });
  }
  await t.step("no Python", async () => {
    await using bench = await Bench.create();
    await rejects(installPlugin(bench.options({ python: `${bench.home}/nowhere` })), [
      /was not found/,
      /Python 3/,
    ]);
  });
  await t.step("another platform", async () => {
    await using bench = await Bench.create();
    for (
      const host of [
        { os: "darwin", arch: "aarch64" },
        { os: "linux", arch: "aarch64", env: "gnu" },
        { ...LINUX, env: "musl" },
      ]
    ) {
      await rejects(installPlugin(bench.options({ host })), [
        /REACTANT_PJRT_PLUGIN=PATH/,
        /glibc only/,
      ]);
    }
    assert.equal(bench.downloads(), 0);
  });
  await t.step("a folder that cannot be made", async () => {
    await using bench = await Bench.create();
    await rejects(installPlugin(bench.options({ folder: "/proc/nowhere" })), [/\/proc\/nowhere/]);
  });
});

Deno.test("installExample() copies a bundle once and leaves an existing one alone", async () => {
  await using bench = await Bench.create();
  const source = `${bench.home}/bundle`;
  Deno.mkdirSync(`${source}/deep`, { recursive: true });
  Deno.writeTextFileSync(`${source}/deep/manifest.yaml`, "one");
  installExample(source, `${bench.home}/models/digits`, bench.report);
  const copy = `${bench.home}/models/digits/deep/manifest.yaml`;
  assert.equal(Deno.readTextFileSync(copy), "one");
  Deno.writeTextFileSync(copy, "mine");
  installExample(source, `${bench.home}/models/digits`, bench.report);
  assert.equal(Deno.readTextFileSync(copy), "mine");
  installExample(`${bench.home}/absent`, `${bench.home}/models/absent`, bench.report);
  assert.deepEqual([...Deno.readDirSync(`${bench.home}/models`)].map(({ name }) => name), [
    "digits",
  ]);
});

async function rejects(work: Promise<void>, expected: RegExp[]): Promise<void> {
  const error = await work.then(() => undefined, (reason) => reason);
  assert.ok(error instanceof SetupError, `expected a SetupError, got ${error}`);
  for (const pattern of expected) assert.match(error.message, pattern);
  assert.ok(!error.message.includes("\n"), "one line");
}

function failingDownload(stderr: string): string {
  return `[ "$3" = --version ] && exit 0\nprintf '%s\\n' ${JSON.stringify(stderr)} >&2; exit 1`;
}

/** A folder with a wheel made by Python's zipfile, and a stand-in for `python3` that "downloads" it. */
class Bench implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly report: Reporter = {
    line: (text) => void this.lines.push(text),
    progress: (text) => void this.lines.push(text),
  };

  private constructor(readonly home: string, readonly plugin: PinnedPlugin) {
    this.script(`
      [ "$3" = --version ] && exit 0
      for arg in "$@"; do case $arg in --dest=*) dest=\${arg#--dest=};; esac; done
      echo once >> ${home}/downloads
      mkdir -p "$dest" && cp ${home}/thing.whl "$dest/"`);
  }

  static async create(): Promise<Bench> {
    const home = Deno.makeTempDirSync();
    Deno.writeFileSync(`${home}/plugin.so`, PLUGIN_BYTES);
    Deno.writeFileSync(`${home}/header.h`, HEADER_BYTES);
    // The first member deflated, the second stored: both kinds a wheel may hold.
    const made = await new Deno.Command("python3", {
      args: [
        "-c",
        `import zipfile
with zipfile.ZipFile("thing.whl", "w") as z:
    z.write("plugin.so", "pkg/plugin.so", zipfile.ZIP_DEFLATED)
    z.write("header.h", "pkg/include/header.h", zipfile.ZIP_STORED)
    z.comment = b"a comment behind the directory"`,
      ],
      cwd: home,
    }).output();
    assert.ok(made.success, new TextDecoder().decode(made.stderr));
    return new Bench(home, {
      requirement: "thing==1",
      platform: "any",
      sha256: digest(Deno.readFileSync(`${home}/thing.whl`)),
      megabytes: 1,
      files: [
        { member: "pkg/plugin.so", name: "plugin.so", sha256: digest(PLUGIN_BYTES) },
        { member: "pkg/include/header.h", name: "header.h", sha256: digest(HEADER_BYTES) },
      ],
    });
  }

  get folder(): string {
    return `${this.home}/pjrt`;
  }

  script(body: string): void {
    Deno.writeTextFileSync(`${this.home}/python`, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  }

  options(changes: Partial<InstallOptions> = {}): InstallOptions {
    return {
      folder: this.folder,
      python: `${this.home}/python`,
      plugin: this.plugin,
      host: LINUX,
      report: this.report,
      ...changes,
    };
  }

  downloads(): number {
    try {
      return Deno.readTextFileSync(`${this.home}/downloads`).trim().split("\n").length;
    } catch {
      return 0;
    }
  }

  leftovers(): string[] {
    return [...Deno.readDirSync(this.folder)].map(({ name }) => name)
      .filter((name) => name.startsWith(".partial-"));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Deno.remove(this.home, { recursive: true });
  }
}

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
