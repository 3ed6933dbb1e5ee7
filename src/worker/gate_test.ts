import assert from "node:assert/strict";
import { Gate } from "./gate.ts";

Deno.test("enter() lets waiters in strictly in order, small ones behind large ones", async () => {
  const gate = new Gate(4, "the gate");
  const order: string[] = [];
  const first = await gate.enter({}, 3);
  const large = gate.enter({}, 4).then((permit) => (order.push("large"), permit));
  const small = gate.enter({}, 1).then((permit) => (order.push("small"), permit));
  assert.equal(gate.waiting, 2);
  first[Symbol.dispose]();
  (await large)[Symbol.dispose]();
  (await small)[Symbol.dispose]();
  assert.deepEqual(order, ["large", "small"]);
  assert.equal(gate.free, 4);
});

Deno.test("enter() ends at the deadline and stalls nobody behind it", async () => {
  const gate = new Gate(2, "the gate");
  const held = await gate.enter({}, 1);
  const late = gate.enter({ deadlineMs: performance.now() + 20 }, 2);
  const behind = gate.enter({}, 1);
  await assert.rejects(late, { status: "DEADLINE_EXCEEDED", message: /waited for the gate/ });
  (await behind)[Symbol.dispose]();
  held[Symbol.dispose]();
  assert.equal(gate.free, 2);
});

Deno.test("enter() passes over callers that went away; a permit counts once", async () => {
  const gate = new Gate(1, "the gate");
  const held = await gate.enter();
  const gone = gate.enter({ isAborted: () => true });
  const next = gate.enter();
  held[Symbol.dispose]();
  held[Symbol.dispose]();
  await assert.rejects(gone, { status: "CANCELLED" });
  (await next)[Symbol.dispose]();
  assert.equal(gate.free, 1);
});

Deno.test("enter() of more than the capacity waits for all of it", async () => {
  const gate = new Gate(2, "the gate");
  const all = await gate.enter({}, 99);
  assert.equal(gate.free, 0);
  all[Symbol.dispose]();
  assert.equal(gate.free, 2);
});
