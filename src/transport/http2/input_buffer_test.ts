import assert from "node:assert/strict";
import { InputBuffer } from "./input_buffer.ts";

/** A read that fills all the room there is, of which everything is parsed. */
function fill(input: InputBuffer): number {
  const room = input.room().length;
  input.filled(room);
  input.start = input.end;
  return room;
}

Deno.test("InputBuffer grows for a peer that keeps it full, also when nothing is left over", () => {
  const input = new InputBuffer();
  const rooms = Array.from({ length: 7 }, () => fill(input));
  assert.deepEqual(rooms.map((room) => room / 1024), [16, 32, 64, 128, 256, 256, 256]);
});

Deno.test("InputBuffer stays as it is for a peer that does not fill it", () => {
  const input = new InputBuffer();
  for (let round = 0; round < 100; round++) {
    input.room();
    input.filled(16 * 1024 - 1);
    input.start = input.end;
  }
  assert.equal(input.bytes.length, 16 * 1024);
});

Deno.test("InputBuffer leaves what was given away alone when it grows", () => {
  const input = new InputBuffer();
  input.room().fill(7);
  input.filled(16 * 1024);
  const given = input.bytes.subarray(0, 100);
  input.start = input.end;
  input.isKept = true;
  input.room().fill(8);
  assert.deepEqual(given, new Uint8Array(100).fill(7));
});
