import assert from "node:assert/strict";
import { join } from "node:path";
import {
  denseBundle,
  temporaryDirectory,
  writeBundle,
} from "../../tests/harness/bundle_builder.ts";
import { loadBundle } from "./bundle.ts";
import { fingerprintBundle } from "./fingerprint.ts";
import { findNestedMetas, scanRepository } from "./repository.ts";

function meta(calls: string[]) {
  const tensor = { name: "x", dtype: "f32", shape: "n" };
  return {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      kind: "meta",
      meta: { calls },
      client_inputs: [tensor],
      client_outputs: [tensor],
    }),
    "model.ts": "",
  };
}

Deno.test("scanRepository() lists directories and links with a manifest, sorted", async () => {
  await using root = await temporaryDirectory();
  const path = root.path;
  const b = await writeBundle(path, "b", denseBundle());
  await writeBundle(path, ".hidden", denseBundle());
  await writeBundle(path, "no-manifest", { "README.md": "" });
  await Deno.writeTextFile(join(path, "file"), "");
  await Deno.symlink(b, join(path, "a"));
  await Deno.symlink(join(path, "file"), join(path, "link-to-file"));
  const scan = await scanRepository([path]);
  assert.deepEqual(scan.found.map(({ name }) => name), [".hidden", "a", "b"]);
  assert.deepEqual(scan.failures, []);
  assert.deepEqual(scan.rootFailures, []);
});

Deno.test("scanRepository() reports a link that leads nowhere", async () => {
  await using root = await temporaryDirectory();
  await Deno.symlink("nowhere", join(root.path, "gone"));
  const { failures } = await scanRepository([root.path]);
  assert.equal(failures[0]!.name, "gone");
  assert.match(failures[0]!.error.message, /a link to something that does not exist/);
});

Deno.test("scanRepository() says of a name that is not UTF-8 that it is the name", async () => {
  await using root = await temporaryDirectory();
  const made = await new Deno.Command("sh", {
    args: ["-c", 'mkdir "$0/$(printf "caf\\351")"', root.path],
  }).output();
  assert.ok(made.success);
  const { failures } = await scanRepository([root.path]);
  assert.match(failures[0]!.error.message, /its name is not UTF-8; rename the directory/);
});

Deno.test("scanRepository() reports a root it cannot list and goes on with the others", async () => {
  await using root = await temporaryDirectory();
  await writeBundle(root.path, "m", denseBundle());
  const scan = await scanRepository([join(root.path, "absent"), root.path]);
  assert.deepEqual(scan.found.map(({ name }) => name), ["m"]);
  assert.equal(scan.rootFailures[0]!.root, join(root.path, "absent"));
});

Deno.test("scanRepository() refuses a name that two roots have, but not a root given twice", async () => {
  await using root = await temporaryDirectory();
  const one = join(root.path, "one");
  const two = join(root.path, "two");
  await writeBundle(one, "m", denseBundle());
  await writeBundle(two, "m", denseBundle());
  await writeBundle(two, "other", denseBundle());
  const { found, failures } = await scanRepository([one, two]);
  assert.deepEqual(found.map(({ name }) => name), ["other"]);
  assert.match(failures[0]!.error.message, /more than once.*one\/m and .*two\/m/);
  const again = await scanRepository([one, `${one}/`, one]);
  assert.deepEqual(again.found.map(({ name }) => name), ["m"]);
});

Deno.test("scanRepository() looks only at the names to include", async () => {
  await using root = await temporaryDirectory();
  for (const name of ["a", "b", "c"]) await writeBundle(root.path, name, denseBundle());
  await Deno.symlink("nowhere", join(root.path, "gone"));
  const scan = await scanRepository([root.path], ["c", "a", "absent"]);
  assert.deepEqual(scan.found.map(({ name }) => name), ["a", "c"]);
  assert.deepEqual(scan.failures, []);
});

Deno.test("findNestedMetas() finds the meta that calls a meta", async () => {
  await using root = await temporaryDirectory();
  const inner = await loadBundle(await writeBundle(root.path, "inner", meta(["dense", "far"])));
  const outer = await loadBundle(await writeBundle(root.path, "outer", meta(["dense", "inner"])));
  using dense = await loadBundle(await writeBundle(root.path, "dense", denseBundle()));
  const failures = findNestedMetas([inner, outer, dense]);
  assert.deepEqual(failures.map(({ name }) => name), ["outer"]);
  assert.match(failures[0]!.error.message, /lists "inner", which is a meta model itself/);
});

Deno.test("fingerprintBundle() changes with every file the model depends on", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "m", {
    ...denseBundle(),
    "model.v0.b1.mlir": "x",
  });
  const take = async () => (await fingerprintBundle("m", directory)).contents;
  let before = await take();
  for (const name of Object.keys(denseBundle()).concat("model.v0.b1.mlir", "model.v9.mlir")) {
    await Deno.writeTextFile(join(directory, name), `changed ${name}`);
    const after = await take();
    assert.notEqual(after, before, name);
    before = after;
  }
  for (const name of ["golden.safetensors", "notes.txt", ".swp"]) {
    await Deno.writeTextFile(join(directory, name), name);
    assert.equal(await take(), before, name);
  }
});

Deno.test("fingerprintBundle() covers the assets of a hook file", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "m", { ...denseBundle(), "model.ts": "" });
  await Deno.mkdir(join(directory, "assets"));
  const take = async () => (await fingerprintBundle("m", directory)).contents;
  const before = await take();
  await Deno.writeTextFile(join(directory, "assets", "vocab.txt"), "a");
  const after = await take();
  assert.notEqual(after, before);
  await Deno.remove(join(directory, "model.ts"));
  assert.notEqual(await take(), after);
});

Deno.test("fingerprintBundle() notices a file replaced with its modification time kept", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "m", denseBundle());
  const path = join(directory, "weights.safetensors");
  const { mtime } = await Deno.stat(path);
  const before = await fingerprintBundle("m", directory);
  const bytes = await Deno.readFile(path);
  bytes[bytes.length - 1]! ^= 1;
  await Deno.writeFile(`${path}.new`, bytes);
  await Deno.utime(`${path}.new`, mtime!, mtime!);
  await Deno.rename(`${path}.new`, path);
  const after = await fingerprintBundle("m", directory);
  assert.notEqual(after.contents, before.contents);
  assert.equal(after.identity, before.identity);
});

Deno.test("fingerprintBundle() follows a renamed directory and tells two links apart", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "m", denseBundle());
  const before = await fingerprintBundle("m", directory);
  const moved = join(root.path, "moved");
  await Deno.rename(directory, moved);
  assert.deepEqual(await fingerprintBundle("moved", moved), before);
  await Deno.symlink(moved, join(root.path, "link"));
  const linked = await fingerprintBundle("link", join(root.path, "link"));
  assert.equal(linked.contents, before.contents);
  assert.notEqual(linked.identity, before.identity);
});
