import assert from "node:assert/strict";
import { parseMemberFile, readMemberFile } from "./member_file.ts";

Deno.test("parseMemberFile() names the line that is wrong", () => {
  assert.deepEqual(parseMemberFile("# all\n\n a:1 - x # one\n[::1]:2 b:3\r\n", "/w"), [
    { id: "a:1", name: "x", metricsEndpoint: undefined },
    { id: "[::1]:2", name: "[::1]:2", metricsEndpoint: "b:3" },
  ]);
  assert.throws(
    () => parseMemberFile("a:1\nb\n", "/w"),
    /^ConfigError: \/w, line 2: "b" is no worker/,
  );
  assert.throws(() => parseMemberFile("a:1 b", "/w"), /line 1: "b" is no metrics address/);
  assert.throws(() => parseMemberFile("a:0", "/w"), /"a:0" is no worker's address/);
  assert.throws(() => parseMemberFile("a:1 b:2 c d", "/w"), /got more/);
});

Deno.test("readMemberFile() refuses what never ends, keeps a reader waiting or is no list", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/workers`;
    await Deno.writeTextFile(path, "a:1\n");
    await Deno.symlink(path, `${folder}/link`);
    assert.equal(await readMemberFile(`${folder}/link`), "a:1\n");
    const pipe = `${folder}/pipe`;
    assert.ok((await new Deno.Command("mkfifo", { args: [pipe] }).output()).success);
    await assert.rejects(readMemberFile(pipe), /pipe is not a regular file/);
    await assert.rejects(readMemberFile("/dev/zero"), /zero is not a regular file/);
    await assert.rejects(readMemberFile(folder), /is not a regular file/);
    await Deno.truncate(path, 2 ** 40);
    await assert.rejects(readMemberFile(path), /more than 1048576 bytes/);
    await assert.rejects(readMemberFile(`${folder}/none`), Deno.errors.NotFound);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
