import assert from "node:assert/strict";
import { ResidencyLedger } from "./residency_ledger.ts";

/** Brings an entry in at once; gives what had to leave. */
function load(ledger: ResidencyLedger<string>, key: string): readonly string[] {
  const admission = ledger.admit(key);
  assert.equal(admission.kind, "load");
  ledger.loaded(key);
  return admission.kind === "load" ? admission.victims : [];
}

function ledgerOf(budget: number, sizes: Record<string, number>): ResidencyLedger<string> {
  const ledger = new ResidencyLedger<string>(budget);
  for (const [key, bytes] of Object.entries(sizes)) ledger.add(key, bytes);
  return ledger;
}

function touch(ledger: ResidencyLedger<string>, key: string): void {
  ledger.beginUse(key);
  ledger.endUse(key);
}

/** Numerical Recipes' generator, in [0, 1). */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

/** The textbook: a list in order of use; from its front whatever does not fit leaves. */
function idealLru(trace: readonly string[], sizes: Map<string, number>, budget: number): number[] {
  const list: string[] = [];
  return trace.map((key, at) => {
    const found = list.indexOf(key);
    if (found >= 0) list.splice(found, 1);
    else {
      const total = () => list.reduce((sum, one) => sum + sizes.get(one)!, 0);
      while (total() + sizes.get(key)! > budget) list.shift();
    }
    list.push(key);
    return found >= 0 ? -1 : at;
  }).filter((at) => at >= 0);
}

Deno.test("ResidencyLedger misses exactly where an ideal LRU of the same trace does", () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const next = random(seed);
    const sizes = new Map(
      Array.from(
        { length: 40 },
        (_, k): [string, number] => [`m${k}`, 1 + Math.floor(next() * 100)],
      ),
    );
    const budget = 400;
    const trace = Array.from({ length: 3000 }, () => `m${Math.floor(next() ** 2 * 40)}`);
    const ledger = ledgerOf(budget, Object.fromEntries(sizes));
    const misses: number[] = [];
    for (const [at, key] of trace.entries()) {
      if (!ledger.isResident(key)) {
        misses.push(at);
        load(ledger, key);
      }
      touch(ledger, key);
      assert.ok(ledger.residentBytes <= budget);
    }
    assert.deepEqual(misses, idealLru(trace, sizes, budget));
    const resident = ledger.recency.reduce((sum, key) => sum + sizes.get(key)!, 0);
    assert.equal(ledger.residentBytes, resident);
    assert.equal(ledger.evictions, misses.length - ledger.recency.length);
  }
});

Deno.test("ResidencyLedger evicts neither what is in use nor what is pinned", () => {
  const ledger = ledgerOf(20, { a: 10, b: 10, c: 10, d: 20 });
  load(ledger, "a");
  load(ledger, "b");
  ledger.beginUse("a");
  touch(ledger, "b");
  assert.deepEqual(load(ledger, "c"), ["b"]);
  assert.deepEqual(ledger.admit("d"), { kind: "wait" }, "a is in use");
  assert.ok(ledger.isResident("c"), "who waits has taken nothing");
  ledger.pin("a");
  ledger.endUse("a");
  assert.deepEqual([ledger.pinnedBytes, ledger.residentBytes], [10, 10]);
  assert.deepEqual(load(ledger, "d"), ["c"]);
  assert.ok(ledger.isResident("a"));
});

Deno.test("ResidencyLedger keeps what came for work until that has begun", () => {
  const ledger = ledgerOf(10, { a: 10, b: 10 });
  load(ledger, "a");
  const wanted = { isWanted: (key: string) => key === "a" };
  assert.deepEqual(ledger.admit("b", wanted), { kind: "wait" });
  ledger.beginUse("a");
  assert.deepEqual(ledger.admit("b", wanted), { kind: "wait" }, "in use");
  ledger.endUse("a");
  assert.deepEqual(ledger.admit("b", wanted), { kind: "load", victims: ["a"] });
});

Deno.test("ResidencyLedger lets what work waits for leave last", () => {
  const ledger = ledgerOf(30, { a: 10, b: 10, c: 10, d: 10, e: 20 });
  for (const key of ["a", "b", "c"]) {
    load(ledger, key);
    touch(ledger, key);
  }
  const wanted = { isWanted: (key: string) => key === "a" || key === "b" };
  assert.deepEqual(ledger.admit("d", wanted), { kind: "load", victims: ["c"] });
  ledger.failed("d");
  assert.deepEqual(ledger.admit("e", wanted), { kind: "load", victims: ["a"] });
});

Deno.test("ResidencyLedger refuses what is larger than the budget and evicts nothing for it", () => {
  const ledger = ledgerOf(15, { a: 10, huge: 16 });
  load(ledger, "a");
  assert.deepEqual(ledger.admit("huge"), { kind: "never" });
  assert.ok(ledger.isResident("a"));
});

Deno.test("ResidencyLedger counts what is being loaded, and gives it back when that fails", () => {
  const ledger = ledgerOf(20, { a: 10, b: 10, c: 10 });
  ledger.admit("a");
  ledger.admit("b");
  assert.equal(ledger.loadingBytes, 20);
  assert.deepEqual(ledger.admit("c"), { kind: "wait" }, "nothing half loaded can leave");
  ledger.failed("a");
  assert.deepEqual(ledger.admit("c"), { kind: "load", victims: [] });
  ledger.loaded("b");
  ledger.loaded("c");
  assert.deepEqual([ledger.loadingBytes, ledger.residentBytes], [0, 20]);
  ledger.remove("b");
  assert.equal(ledger.residentBytes, 10);
});

Deno.test("ResidencyLedger.trim() follows a budget that shrinks, when that becomes possible", () => {
  const ledger = ledgerOf(30, { a: 10, b: 10, c: 10 });
  for (const key of ["a", "b", "c"]) {
    load(ledger, key);
    touch(ledger, key);
  }
  ledger.beginUse("a");
  ledger.budgetBytes = 10;
  assert.deepEqual(ledger.trim(), ["b", "c"], "the older one is in use");
  ledger.budgetBytes = 5;
  assert.deepEqual(ledger.trim(), []);
  ledger.endUse("a");
  assert.deepEqual(ledger.trim(), ["a"]);
});

Deno.test("ResidencyLedger brings pinned entries in beside the budget, after what is over it left", () => {
  const ledger = ledgerOf(20, { a: 10, b: 10, p: 10 });
  load(ledger, "a");
  load(ledger, "b");
  ledger.pin("p");
  ledger.budgetBytes = 10;
  ledger.beginUse("a");
  ledger.beginUse("b");
  assert.deepEqual(ledger.admit("p"), { kind: "wait" });
  ledger.endUse("b");
  assert.deepEqual(ledger.admit("p"), { kind: "load", victims: ["b"] });
  ledger.loaded("p");
  ledger.unpin("p");
  assert.deepEqual([ledger.pinnedBytes, ledger.residentBytes], [0, 20]);
  assert.deepEqual(ledger.recency, ["a", "p"]);
  assert.equal(ledger.release("a"), false, "in use");
  assert.equal(ledger.release("p"), true);
});
