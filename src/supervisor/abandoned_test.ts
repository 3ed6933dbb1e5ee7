import assert from "node:assert/strict";
import { removeAbandoned } from "./abandoned.ts";

Deno.test("removeAbandoned() removes folders whose socket nobody listens on, and no other", async () => {
  const temporary = await Deno.makeTempDir({ prefix: "left-" });
  const folderOf = (name: string) => `${temporary}/reactantserver-${name}`;
  /** A socket in a folder of its own; `seconds` old. */
  const listen = async (name: string, seconds: number) => {
    const path = `${folderOf(name)}/link.sock`;
    await Deno.mkdir(folderOf(name));
    // Closing it removes the path that it was made at.
    const listener = Deno.listen({ transport: "unix", path: `${path}.new` });
    await Deno.rename(`${path}.new`, path);
    const then = Date.now() / 1000 - seconds;
    await Deno.utime(path, then, then);
    return listener;
  };
  using _live = await listen("live", 3600);
  (await listen("dead", 3600)).close();
  (await listen("young", 5)).close();
  await Deno.mkdir(folderOf("starting"));
  await Deno.mkdir(folderOf("other"));
  await Deno.writeTextFile(`${folderOf("other")}/link.sock`, "");
  try {
    assert.deepEqual(await removeAbandoned(temporary), ["reactantserver-dead"]);
    const left = [...Deno.readDirSync(temporary)].map(({ name }) => name.replace(/.*-/, ""));
    assert.deepEqual(left.sort(), ["live", "other", "starting", "young"]);
    assert.deepEqual(await removeAbandoned(`${temporary}/nowhere`), []);
  } finally {
    await Deno.remove(temporary, { recursive: true });
  }
});
