import assert from "node:assert/strict";
import { type KnownModel, planReload, retrySeconds } from "./reload_plan.ts";
import type { RepositorySnapshot, Sighting } from "./reload_snapshot.ts";

/** Folders as `name: "contents@identity"`; all in the folder `/m`. */
type Folders = Readonly<Record<string, string>>;

function sighting(name: string, text: string): Sighting {
  const [contents, identity] = text.split("@");
  return { contents: contents!, identity: identity!, directory: `/m/${name}` };
}

function snapshot(folders: Folders, unreadable: string[] = []): RepositorySnapshot {
  return {
    models: new Map(Object.entries(folders).map(([name, text]) => [name, sighting(name, text)])),
    unreadable: new Map(unreadable.map((folder) => [folder, "stale file handle"])),
  };
}

/** Plays a worker that carries out every plan at once, and fails to load contents that start with "bad". */
class Worker {
  readonly known = new Map<string, KnownModel>();
  readonly busy = new Set<string>();
  nowMs = 0;
  #previous: RepositorySnapshot;

  constructor(folders: Folders) {
    this.#previous = snapshot(folders);
    for (const [name, text] of Object.entries(folders)) {
      this.known.set(name, { serving: sighting(name, text) });
    }
  }

  /** One poll; what was done, in order. */
  poll(folders: Folders, unreadable: string[] = []): string[] {
    const current = snapshot(folders, unreadable);
    const { known, busy, nowMs } = this;
    const plan = planReload({ known, busy, previous: this.#previous, current, nowMs });
    this.#previous = current;
    for (const { name, sighting } of plan.confirmed) known.set(name, { serving: sighting });
    for (const name of plan.unloads) known.delete(name);
    for (const { from } of plan.renames) known.delete(from);
    for (const { to, sighting } of plan.renames) known.set(to, { serving: sighting });
    for (const { name, sighting } of plan.loads) {
      const { serving, failure } = known.get(name) ?? {};
      if (!sighting.contents.startsWith("bad")) {
        known.set(name, { serving: sighting });
        continue;
      }
      const attempts = failure?.sighting.contents === sighting.contents ? failure.attempts + 1 : 1;
      const retryAtMs = nowMs + 1000 * retrySeconds(attempts, 10);
      known.set(name, { serving, failure: { sighting, attempts, retryAtMs, isMetaRule: false } });
    }
    return [
      ...plan.unloads.map((name) => `unload ${name}`),
      ...plan.renames.map(({ from, to }) => `rename ${from} to ${to}`).toSorted(),
      ...plan.loads.map(({ name }) => `load ${name}`),
      ...plan.confirmed.map(({ name }) => `confirm ${name}`),
    ];
  }
}

Deno.test("planReload() acts on what two polls in a row have seen", () => {
  const worker = new Worker({ a: "1@A" });
  assert.deepEqual(worker.poll({ a: "1@A" }), []);
  // A bundle that grows is left alone until it stops.
  for (const contents of ["1", "2", "3"]) {
    assert.deepEqual(worker.poll({ a: "1@A", b: `${contents}@B` }), []);
  }
  assert.deepEqual(worker.poll({ a: "1@A", b: "3@B" }), ["load b"]);
  assert.deepEqual(worker.poll({ a: "2@A", b: "3@B" }), []);
  assert.deepEqual(worker.poll({ a: "2@A", b: "3@B" }), ["load a"]);
  assert.deepEqual(worker.poll({ b: "3@B" }), []);
  assert.deepEqual(worker.poll({ b: "3@B" }), ["unload a"]);
  assert.deepEqual(worker.poll({ b: "3@B" }), []);
});

Deno.test("planReload() does nothing about a change that was taken back between two polls", () => {
  const worker = new Worker({ a: "1@A" });
  for (const folders of [{ a: "2@A" }, { a: "1@A" }, {}, { a: "1@A" }, { a: "1@A" }]) {
    assert.deepEqual(worker.poll(folders as Folders), []);
  }
});

Deno.test("planReload() tries a failed bundle again ever later, and at once when it changes", () => {
  const worker = new Worker({ a: "1@A" });
  worker.poll({ a: "bad@A" });
  const attempts: number[] = [];
  for (worker.nowMs = 0; worker.nowMs < 1_000_000; worker.nowMs += 10_000) {
    if (worker.poll({ a: "bad@A" }).length > 0) attempts.push(worker.nowMs / 1000);
  }
  assert.deepEqual(attempts, [0, 20, 60, 140, 300, 600, 900]);
  assert.equal(worker.known.get("a")!.serving!.contents, "1");
  worker.poll({ a: "2@A" });
  assert.deepEqual(worker.poll({ a: "2@A" }), ["load a"]);
  assert.deepEqual(worker.known.get("a"), { serving: sighting("a", "2@A") });
});

Deno.test("planReload() is content with a broken update that was taken back", () => {
  const worker = new Worker({ a: "1@A" });
  worker.poll({ a: "bad@B" });
  assert.deepEqual(worker.poll({ a: "bad@B" }), ["load a"]);
  worker.poll({ a: "1@A" });
  assert.deepEqual(worker.poll({ a: "1@A" }), ["confirm a"]);
  assert.equal(worker.known.get("a")!.failure, undefined);
});

Deno.test("planReload() forgets a bundle that never loaded when it is gone", () => {
  const worker = new Worker({});
  worker.poll({ a: "bad@A" });
  assert.deepEqual(worker.poll({ a: "bad@A" }), ["load a"]);
  worker.poll({});
  assert.deepEqual(worker.poll({}), ["unload a"]);
});

Deno.test("planReload() keeps the models of a folder that cannot be read", () => {
  const worker = new Worker({ a: "1@A" });
  for (let i = 0; i < 3; i++) assert.deepEqual(worker.poll({}, ["/m"]), []);
  // The first look at the empty folder has no look before it to compare with.
  assert.deepEqual(worker.poll({}), []);
  assert.deepEqual(worker.poll({}), ["unload a"]);
});

Deno.test("planReload() sees renames: to a free name, in a chain, in a circle, onto another model", () => {
  const free = new Worker({ a: "1@A" });
  free.poll({ b: "1@A" });
  assert.deepEqual(free.poll({ b: "1@A" }), ["rename a to b"]);

  const chain = new Worker({ production: "1@P", staging: "2@S" });
  chain.poll({ "production-old": "1@P", production: "2@S" });
  assert.deepEqual(chain.poll({ "production-old": "1@P", production: "2@S" }), [
    "rename production to production-old",
    "rename staging to production",
  ]);

  const circle = new Worker({ a: "1@A", b: "2@B" });
  circle.poll({ a: "2@B", b: "1@A" });
  assert.deepEqual(circle.poll({ a: "2@B", b: "1@A" }), ["rename a to b", "rename b to a"]);

  const onto = new Worker({ production: "1@P", staging: "2@S" });
  onto.poll({ production: "2@S" });
  assert.deepEqual(onto.poll({ production: "2@S" }), ["rename staging to production"]);

  const replaced = new Worker({ a: "1@A" });
  replaced.poll({ a: "3@C", b: "1@A" });
  // Else nothing would answer to the old name until its new bundle is loaded.
  assert.deepEqual(replaced.poll({ a: "3@C", b: "1@A" }), ["load a", "load b"]);
});

Deno.test("planReload() waits for the new name when a look fell into the middle of a rename", () => {
  const worker = new Worker({ a: "1@A" });
  worker.poll({});
  assert.deepEqual(worker.poll({ b: "1@A" }), []);
  assert.deepEqual(worker.poll({ b: "1@A" }), ["rename a to b"]);
});

Deno.test("planReload() loads anew what was changed as well as renamed, and what is a copy", () => {
  const changed = new Worker({ a: "1@A" });
  changed.poll({ b: "2@A" });
  assert.deepEqual(changed.poll({ b: "2@A" }), ["unload a", "load b"]);

  const copy = new Worker({ a: "1@A" });
  copy.poll({ a: "1@A", b: "1@B" });
  assert.deepEqual(copy.poll({ a: "1@A", b: "1@B" }), ["load b"]);

  // Two links to one folder: neither is a rename of the other while both are there.
  const link = new Worker({ a: "1@A" });
  link.poll({ a: "1@A", b: "1@A" });
  assert.deepEqual(link.poll({ a: "1@A", b: "1@A" }), ["load b"]);
});

Deno.test("planReload() leaves names alone that are being worked on, and comes back to them", () => {
  const worker = new Worker({ a: "1@A", b: "1@B" });
  worker.busy.add("a");
  worker.poll({ c: "1@A" });
  assert.deepEqual(worker.poll({ c: "1@A" }), ["unload b", "load c"]);

  const target = new Worker({ a: "1@A", b: "1@B" });
  target.busy.add("b");
  target.poll({ b: "1@A" });
  assert.deepEqual(target.poll({ b: "1@A" }), []);
  target.busy.delete("b");
  assert.deepEqual(target.poll({ b: "1@A" }), ["rename a to b"]);
});

Deno.test("retrySeconds() doubles from two polls up to five minutes", () => {
  assert.deepEqual([1, 2, 3, 10, 2000].map((n) => retrySeconds(n, 15)), [30, 60, 120, 300, 300]);
});
