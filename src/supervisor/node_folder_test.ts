import assert from "node:assert/strict";
import { openNodeFolder } from "./node_folder.ts";
import { parseReport } from "./link_server.ts";

Deno.test("openNodeFolder() writes the node file and removes what it made", () => {
  const folder = Deno.makeTempDirSync({ prefix: "folder-" });
  try {
    let privateFolder: string;
    {
      using node = openNodeFolder(`${folder}/run`);
      privateFolder = node.privateFolder;
      const path = node.write("model_repo: x\n");
      assert.equal(path, `${folder}/run/node.yaml`);
      assert.match(
        Deno.readTextFileSync(path),
        /^# Written by reactantserver, .*\nmodel_repo: x\n$/,
      );
      assert.equal(Deno.statSync(privateFolder).mode! & 0o777, 0o700);
      assert.deepEqual([...Deno.readDirSync(`${folder}/run`)].map(({ name }) => name), [
        "node.yaml",
      ]);
    }
    assert.throws(() => Deno.statSync(`${folder}/run/node.yaml`), Deno.errors.NotFound);
    assert.throws(() => Deno.statSync(privateFolder), Deno.errors.NotFound);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("openNodeFolder() leaves the file of another running node alone", async () => {
  const another = new Deno.Command("sleep", { args: ["600"] }).spawn();
  const folder = Deno.makeTempDirSync({ prefix: "folder-" });
  try {
    const path = `${folder}/node.yaml`;
    const other = (pid: number) =>
      `# Written by reactantserver, process ${pid}. Do not edit.\nx: 1\n`;
    Deno.writeTextFileSync(path, other(another.pid));
    {
      using node = openNodeFolder(folder);
      assert.equal(node.write("y: 2\n"), `${node.privateFolder}/node.yaml`);
    }
    assert.equal(Deno.readTextFileSync(path), other(another.pid));
    // One that was left by a node which is gone is replaced. No process has this id.
    Deno.writeTextFileSync(path, other(2 ** 30));
    using node = openNodeFolder(folder);
    assert.equal(node.write("y: 2\n"), path);
  } finally {
    another.kill("SIGKILL");
    await another.status;
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("openNodeFolder() falls back to its private folder where it cannot write", () => {
  using node = openNodeFolder("/proc/nowhere");
  assert.equal(node.write("y: 2\n"), `${node.privateFolder}/node.yaml`);
});

Deno.test("parseReport() takes reports and nothing else", () => {
  const parse = (text: string) => parseReport(new TextEncoder().encode(text));
  const report = { name: "w", pid: 1, state: "ready", grpc: "127.0.0.1:1", http: "127.0.0.1:2" };
  assert.deepEqual(parse(JSON.stringify({ ...report, more: 1 })), report);
  assert.deepEqual(parse('{"name":"w","pid":1,"state":"starting","grpc":5}'), {
    name: "w",
    pid: 1,
    state: "starting",
  });
  for (const wrong of ["", "null", "[]", "x", '{"name":"w","pid":1,"state":"fine"}', '{"pid":1}']) {
    assert.equal(parse(wrong), undefined, wrong);
  }
});
