import assert from "node:assert/strict";
import { brandAddress } from "../../../ffi/mod.ts";
import { HandleTable } from "./handle.ts";

function table() {
  const handles = new HandleTable();
  const freed: bigint[] = [];
  const own = (address: bigint) =>
    handles.own("buffer", brandAddress<"PJRT_Buffer">(address), (each) => freed.push(each));
  return { handles, freed, own };
}

Deno.test("Handle frees once, however often it is disposed", () => {
  const { handles, freed, own } = table();
  const handle = own(1n);
  assert.equal(handles.live().buffer, 1);
  handle[Symbol.dispose]();
  handle[Symbol.dispose]();
  assert.deepEqual(freed, [1n]);
  assert.equal(handles.live().buffer, 0);
  assert.throws(() => handle.borrow(), /this buffer has been disposed/);
});

Deno.test("Handle waits for its last borrower", () => {
  const { freed, own } = table();
  const handle = own(2n);
  assert.equal(handle.borrow(), 2n);
  handle.borrow();
  handle[Symbol.dispose]();
  assert.throws(() => handle.borrow(), TypeError, "nobody new");
  handle.release();
  assert.deepEqual(freed, []);
  handle.release();
  assert.deepEqual(freed, [2n]);
  handle[Symbol.dispose]();
  assert.deepEqual(freed, [2n]);
});

Deno.test("HandleTable.disposeAll() frees what is left, newest first", () => {
  const { handles, freed, own } = table();
  own(1n);
  own(2n)[Symbol.dispose]();
  own(3n);
  handles.count("event", 1);
  handles.disposeAll();
  assert.deepEqual(freed, [2n, 3n, 1n]);
  assert.deepEqual({ buffer: handles.live().buffer, event: handles.live().event }, {
    buffer: 0,
    event: 1,
  });
});
