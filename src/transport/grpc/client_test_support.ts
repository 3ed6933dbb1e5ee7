/** What the tests of the client share. */

import assert from "node:assert/strict";
import { ServerError, type StatusName } from "../../errors.ts";
import { joinMessage, type Message } from "../handler.ts";

/** Bytes that are the same for the same length and seed. */
export function pattern(length: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) bytes[index] = index * 31 + seed + (index >> 8);
  return bytes;
}

/** Resolves when a condition holds that another task brings about. */
export async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Asserts a rejection with a `ServerError` of this status. */
export async function rejects(
  promise: Promise<unknown>,
  status: StatusName,
  message: RegExp = /./,
): Promise<void> {
  await assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof ServerError, String(error));
    assert.equal(error.status, status, error.message);
    assert.match(error.message, message);
    return true;
  });
}

/** The messages of a stream, each in one piece. */
export async function collect(messages: AsyncIterable<Message>): Promise<Uint8Array[]> {
  const all: Uint8Array[] = [];
  for await (const message of messages) all.push(new Uint8Array(joinMessage(message)));
  return all;
}
