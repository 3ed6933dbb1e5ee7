import assert from "node:assert/strict";
import { formatCpuList, parseCpuList } from "./cpu_list.ts";

Deno.test("parseCpuList() reads single processors and ranges, in any order", () => {
  assert.deepEqual(parseCpuList("0-3,8"), [0, 1, 2, 3, 8]);
  assert.deepEqual(parseCpuList(" 5 , 1-2\n"), [1, 2, 5]);
  assert.deepEqual(parseCpuList("7"), [7]);
  for (const wrong of ["", "a", "3-1", "1,,2", "-1", "0-99999"]) {
    assert.equal(parseCpuList(wrong), undefined, wrong);
  }
});

Deno.test("formatCpuList() is what parseCpuList() reads", () => {
  assert.equal(formatCpuList([8, 0, 1, 2, 3]), "0-3,8");
  assert.equal(formatCpuList([4]), "4");
  for (const list of ["0", "0-1", "0,2,4", "1-3,5-7,9"]) {
    assert.equal(formatCpuList(parseCpuList(list)!), list);
  }
});
