import assert from "node:assert/strict";
import manifest from "../deno.json" with { type: "json" };
import {
  assetFolder,
  ASSETS,
  assetUrl,
  buildInfo,
  buildKind,
  pluginFolders,
  readAsset,
  selfCommand,
  type Surroundings,
  surroundings,
} from "./standalone.ts";

/** A program root in a temporary folder, with the given files. */
function withRoot(files: Record<string, string>, check: (place: Surroundings) => void): void {
  const folder = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "standalone test " }));
  try {
    for (const [name, text] of Object.entries(files)) {
      Deno.mkdirSync(`${folder}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
      Deno.writeTextFileSync(`${folder}/${name}`, text);
    }
    check({
      root: new URL(`file://${encodeURI(folder)}/`),
      isCompiled: false,
      executable: "/opt/deno",
      portableFile: undefined,
    });
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

const BUILD = { "build.json": JSON.stringify({ commit: "0123456789ab" }) };

Deno.test("buildKind() tells source, compiled and portable apart", () => {
  assert.equal(buildKind(), "source");
  withRoot({}, (place) => {
    assert.equal(buildKind(place), "source");
    assert.equal(buildKind({ ...place, isCompiled: true }), "compiled");
  });
  withRoot(BUILD, (place) => {
    assert.equal(buildKind(place), "portable");
    assert.equal(buildKind({ ...place, isCompiled: true }), "compiled");
  });
});

Deno.test("buildInfo() takes the commit from the package, else from the checkout", () => {
  const hash = "89abcdef0123456789abcdef0123456789abcdef";
  const commitOf = (files: Record<string, string>) => {
    let commit = "";
    withRoot(files, (place) => void (commit = buildInfo(place).commit));
    return commit;
  };
  assert.equal(commitOf(BUILD), "0123456789ab");
  assert.equal(commitOf({ ".git/HEAD": `${hash}\n` }), "89abcdef0123");
  const branch = { ".git/HEAD": "ref: refs/heads/main\n" };
  assert.equal(commitOf({ ...branch, ".git/refs/heads/main": `${hash}\n` }), "89abcdef0123");
  const packed = `# pack-refs\n${"0".repeat(40)} refs/heads/other\n${hash} refs/heads/main\n`;
  assert.equal(commitOf({ ...branch, ".git/packed-refs": packed }), "89abcdef0123");
  assert.equal(commitOf(branch), "unknown");
  assert.equal(commitOf({ ".git": "gitdir: /elsewhere\n" }), "unknown");
  assert.equal(commitOf({}), "unknown");
  assert.equal(buildInfo().version, manifest.version);
});

Deno.test("selfCommand() starts a source tree with Deno and a package by its own file", () => {
  withRoot(BUILD, (place) => {
    assert.deepEqual(selfCommand(["--role", "worker"], { ...place, isCompiled: true }), {
      command: "/opt/deno",
      args: ["--role", "worker"],
    });
    const portableFile = "/usr/local/bin/reactantserver";
    assert.deepEqual(selfCommand(["ctl"], { ...place, portableFile }), {
      command: portableFile,
      args: ["ctl"],
    });
    // Unpacked files that were started by hand have no file of their own to start again.
    assert.equal(selfCommand([], place).args[0], "run");
  });
  withRoot({}, (place) => {
    // Inherited from a portable program that started this one; not ours.
    const { command, args } = selfCommand(["--help"], { ...place, portableFile: "/bin/other" });
    assert.equal(command, "/opt/deno");
    assert.equal(args.at(-1), "--help");
    assert.equal(args.at(-2), `${decodeURIComponent(place.root.pathname)}main.ts`);
    const flags = selfCommand([], place, "--initial-old-space-size=7").args;
    assert.deepEqual(flags.filter((flag) => flag.startsWith("--v8-flags")), [
      "--v8-flags=--initial-old-space-size=7",
    ]);
  });
});

Deno.test("selfCommand() really starts this program", async () => {
  const { command, args } = selfCommand(["--version"]);
  const { code, stdout } = await new Deno.Command(command, { args }).output();
  assert.equal(code, 0);
  assert.match(new TextDecoder().decode(stdout), /^reactantserver \d.*, source, Deno /);
});

Deno.test("every asset is there and lies where its folder says", () => {
  for (const name of ASSETS) {
    assert.ok(readAsset(name).length > 0, name);
    assert.ok(assetUrl(name).pathname.endsWith(`/${name}`));
    assert.equal(Deno.statSync(assetFolder(name)).isDirectory, true);
  }
});

Deno.test("pluginFolders() looks beside a package, and never below the current folder", () => {
  withRoot({ ...BUILD, "bin/reactantserver": "" }, (place) => {
    const root = decodeURIComponent(place.root.pathname);
    const file = `${root}bin/reactantserver`;
    const expected = [`${root}bin/pjrt`, `${root}lib/reactantserver`];
    assert.deepEqual(pluginFolders({ ...place, portableFile: file }), expected);
    assert.deepEqual(pluginFolders({ ...place, isCompiled: true, executable: file }), expected);
    // Through a link, as in `/usr/local/bin`, it is the real file's folder that counts.
    Deno.symlinkSync(file, `${root}link`);
    assert.deepEqual(pluginFolders({ ...place, portableFile: `${root}link` }), expected);
  });
  assert.deepEqual(
    pluginFolders(),
    [`${decodeURIComponent(surroundings().root.pathname)}.cache/pjrt`],
  );
});

Deno.test("no other file of the program asks how it was built or where it lies", () => {
  const root = decodeURIComponent(surroundings().root.pathname);
  const findings: string[] = [];
  for (const path of [...sourceFiles(`${root}src`), ...sourceFiles(`${root}ffi`)]) {
    if (/_(test|bench)\.ts$|\/testing\/|\/standalone\.ts$/.test(path)) continue;
    const code = Deno.readTextFileSync(path);
    const [found] = code.match(
      /import\.meta\.(url|dirname|filename|resolve)|\bexecPath\b|\bmainModule\b|build\.standalone|new Worker\((?!assetUrl)|\bimport\((?!")/,
    ) ?? [];
    if (found !== undefined) findings.push(`${path.slice(root.length)} uses ${found}`);
  }
  assert.deepEqual(findings, [], "ask src/standalone.ts instead");
});

function* sourceFiles(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* sourceFiles(path);
    else if (entry.name.endsWith(".ts")) yield path;
  }
}
