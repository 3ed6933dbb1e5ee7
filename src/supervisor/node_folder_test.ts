import assert from "node:assert/strict";
import { parseReport } from "./link_server.ts";
import { findWrittenFile, openNodeFolder } from "./node_folder.ts";
import { startTime } from "./processes.ts";

Deno.test("openNodeFolder() writes the node file and removes what it made", () => {
  const folder = Deno.makeTempDirSync({ prefix: "folder-" });
  try {
    let privateFolder: string;
    {
      using node = openNodeFolder({ folder: `${folder}/run` });
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
      // A child that is started again after somebody has cleaned up finds it all the same.
      const content = Deno.readTextFileSync(path);
      Deno.removeSync(`${folder}/run`, { recursive: true });
      node.restore();
      assert.equal(Deno.readTextFileSync(path), content);
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
    const written = (by: string) => {
      Deno.writeTextFileSync(
        path,
        `# Written by reactantserver, process ${by}. Do not edit.\nx: 1\n`,
      );
      using node = openNodeFolder({ folder, userFolder: `${folder}/user` });
      const file = node.write("y: 2\n");
      assert.equal(node.taken, file === path ? undefined : path);
      return file;
    };
    const { pid } = another;
    const start = startTime(pid)!;
    for (const by of [`${pid}`, `${pid} (started at tick ${start})`]) {
      assert.match(written(by), /reactantserver-\w+\/node\.yaml$/);
      assert.match(Deno.readTextFileSync(path), /x: 1/);
    }
    // One that is gone is replaced: nobody has this id, or somebody else has it by now. The first process
    // of a container has the id 1 every time.
    for (const by of [`${2 ** 30}`, `${pid} (started at tick ${Number(start) - 1})`]) {
      assert.equal(written(by), path);
    }
    // Of another namespace of process ids: the same id, and still another node.
    {
      using node = openNodeFolder({ folder, userFolder: `${folder}/user` });
      assert.equal(node.write("y: 2\n"), path);
      const theirs =
        `# Written by reactantserver, process ${Deno.pid} (started at tick 1).\nz: 3\n`;
      Deno.writeTextFileSync(path, theirs);
    }
    assert.match(Deno.readTextFileSync(path), /z: 3/);
  } finally {
    another.kill("SIGKILL");
    await another.status;
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("openNodeFolder() writes where health checks of the same user look when it may not in /run", () => {
  const temporary = Deno.makeTempDirSync({ prefix: "folder-" });
  const places = { folder: "/proc/nowhere", userFolder: `${temporary}/user` };
  try {
    {
      using node = openNodeFolder(places);
      assert.equal(findWrittenFile(places), undefined);
      assert.equal(node.write("y: 2\n"), `${temporary}/user/node.yaml`);
      assert.equal(findWrittenFile(places), `${temporary}/user/node.yaml`);
      assert.equal(Deno.statSync(`${temporary}/user`).mode! & 0o777, 0o700);
    }
    assert.throws(() => Deno.statSync(places.userFolder), Deno.errors.NotFound);
    assert.equal(findWrittenFile(places), undefined);
    Deno.mkdirSync(places.userFolder);
    // In a folder that others can write, what lies there may be theirs.
    Deno.chmodSync(`${temporary}/user`, 0o777);
    Deno.writeTextFileSync(`${temporary}/user/node.yaml`, "model_repo: theirs\n");
    using node = openNodeFolder(places);
    assert.equal(node.write("y: 2\n"), `${node.privateFolder}/node.yaml`);
    assert.equal(findWrittenFile(places), undefined);
  } finally {
    Deno.removeSync(temporary, { recursive: true });
  }
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
