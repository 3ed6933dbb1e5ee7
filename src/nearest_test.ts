import assert from "node:assert/strict";
import { nearest } from "./nearest.ts";

Deno.test("nearest() finds slips of the pen and leaves strangers alone", () => {
  const names = ["port", "host", "max_queue_depth", "discipline"];
  assert.equal(nearest("prot", names), "port");
  assert.equal(nearest("PORT", names), "port");
  assert.equal(nearest("max_queu_dept", names), "max_queue_depth");
  assert.equal(nearest("discpline", names), "discipline");
  assert.equal(nearest("entirely_other", names), undefined);
  assert.equal(nearest("", names), undefined);
  assert.equal(nearest("x", []), undefined);
});
