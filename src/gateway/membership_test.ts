import assert from "node:assert/strict";
import { silentLogger } from "../log.ts";
import type { Member } from "./fleet_worker.ts";
import { Membership } from "./membership.ts";

/** A membership whose world is two values. */
function membership(
  endpoints: string[],
  metricsEndpoints: string[] = [],
  workerNames: string[] = [],
) {
  const world = {
    addresses: ["10.0.0.2", "10.0.0.1"] as string[] | Error,
    file: "" as string | Error,
  };
  const seen: (readonly Member[])[] = [];
  const give = <T>(value: T | Error): Promise<T> =>
    value instanceof Error ? Promise.reject(value) : Promise.resolve(value);
  const subject = new Membership({
    endpoints,
    metricsEndpoints,
    workerNames,
    logger: silentLogger,
    sources: { resolve: () => give(world.addresses), readFile: () => give(world.file) },
    onMembers: (members) => seen.push(members),
  });
  return { world, subject, seen, ids: () => seen.at(-1)?.map(({ id }) => id) };
}

Deno.test("Membership pairs listed workers with their metrics and names", async () => {
  const { subject, seen } = membership(["a:1", "b:2"], ["a:11"], ["first"]);
  await subject.look();
  await subject.look();
  assert.deepEqual(seen, [[
    { id: "a:1", name: "first", metricsEndpoint: "a:11" },
    { id: "b:2", name: "b:2", metricsEndpoint: undefined },
  ]]);
  assert.equal(subject.isDynamic, false);
});

Deno.test("Membership follows a name, and keeps what it had while the name fails", async () => {
  const { subject, world, seen, ids } = membership(["dns:w:1"], ["dns:w:9"], ["w"]);
  await subject.look();
  assert.deepEqual(seen.at(-1), [
    { id: "10.0.0.1:1", name: "w@10.0.0.1:1", metricsEndpoint: "10.0.0.1:9" },
    { id: "10.0.0.2:1", name: "w@10.0.0.2:1", metricsEndpoint: "10.0.0.2:9" },
  ]);
  world.addresses = ["10.0.0.2", "fd00::3"];
  await subject.look();
  assert.deepEqual(ids(), ["10.0.0.2:1", "[fd00::3]:1"]);
  world.addresses = new Error("no such name");
  await subject.look();
  assert.deepEqual(ids(), ["10.0.0.2:1", "[fd00::3]:1"]);
  assert.equal(seen.length, 2);
});

Deno.test("Membership reads a file, ignores one that is wrong, and believes an empty one the second time", async () => {
  const { subject, world, seen, ids } = membership(["file:/w", "z:1"]);
  world.file = "a:1\nb:2\n";
  await subject.look();
  assert.deepEqual(ids(), ["a:1", "b:2", "z:1"]);
  world.file = "a:1\nnonsense\n";
  await subject.look();
  assert.deepEqual(ids(), ["a:1", "b:2", "z:1"]);
  world.file = "";
  await subject.look();
  assert.deepEqual(ids(), ["a:1", "b:2", "z:1"]);
  await subject.look();
  assert.deepEqual(ids(), ["z:1"]);
  world.file = "b:2\nz:1 z:9 other\n";
  await subject.look();
  assert.deepEqual(seen.at(-1), [
    { id: "b:2", name: "b:2", metricsEndpoint: undefined },
    { id: "z:1", name: "other", metricsEndpoint: "z:9" },
  ]);
});

Deno.test("Membership tells workers of one name apart by their addresses", async () => {
  const { subject, world, seen } = membership(["file:/w", "z:1"], [], ["", "one"]);
  world.file = "a:1 - one\nb:2 - two\nb:2 - again\n";
  await subject.look();
  assert.deepEqual(seen.at(-1)?.map(({ name }) => name), ["one@a:1", "two", "one@z:1"]);
  world.file = "b:2 - two\n";
  await subject.look();
  assert.deepEqual(seen.at(-1)?.map(({ name }) => name), ["two", "one"]);
});
