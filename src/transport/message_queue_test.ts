import assert from "node:assert/strict";
import type { Message } from "./handler.ts";
import { MessageQueue } from "./message_queue.ts";

function message(value: number): Message {
  return [new Uint8Array([value])];
}

function setup(): { queue: MessageQueue; taken: number[] } {
  const taken: number[] = [];
  return { queue: new MessageQueue((given) => taken.push(given[0]![0]!)), taken };
}

async function drain(queue: MessageQueue): Promise<number[]> {
  const values: number[] = [];
  for await (const given of queue) values.push(given[0]![0]!);
  return values;
}

Deno.test("MessageQueue gives messages in order, whether asked before or after they come", async () => {
  const { queue, taken } = setup();
  queue.push(message(1));
  assert.deepEqual(taken, []);
  const first = queue.next();
  assert.deepEqual(taken, [1]);
  const second = queue.next();
  queue.push(message(2));
  queue.push(message(3));
  queue.end();
  assert.equal((await first).value![0]![0], 1);
  assert.equal((await second).value![0]![0], 2);
  assert.deepEqual(await drain(queue), [3]);
  assert.deepEqual(taken, [1, 2, 3]);
});

Deno.test("MessageQueue.fail() throws after what is queued, abort() at once", async () => {
  const failing = setup().queue;
  failing.push(message(1));
  failing.fail(new Error("later"));
  assert.equal((await failing.next()).value![0]![0], 1);
  await assert.rejects(failing.next(), /later/);
  assert.equal((await failing.next()).done, true);
  const aborting = setup().queue;
  aborting.push(message(1));
  aborting.abort(new Error("now"));
  await assert.rejects(aborting.next(), /now/);
  const ended = setup().queue;
  ended.push(message(1));
  ended.end();
  ended.abort(new Error("even ended"));
  await assert.rejects(ended.next(), /even ended/);
});

Deno.test("MessageQueue wakes those who wait when it ends or fails", async () => {
  const { queue } = setup();
  const waiting = [queue.next(), queue.next()];
  queue.abort(new Error("gone"));
  await assert.rejects(waiting[0]!, /gone/);
  assert.equal((await waiting[1]!).done, true);
  const other = setup().queue;
  const next = other.next();
  other.end();
  assert.equal((await next).done, true);
});

Deno.test("MessageQueue.return() gives back what nobody will read", async () => {
  const { queue, taken } = setup();
  queue.push(message(1));
  await queue.return();
  queue.push(message(2));
  assert.deepEqual(taken, [1, 2]);
  assert.equal((await queue.next()).done, true);
});
