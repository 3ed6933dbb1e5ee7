import assert from "node:assert/strict";
import { mergeExpositions } from "./merge.ts";

Deno.test("mergeExpositions() puts everybody's samples of a family under its first header", () => {
  const a = [
    "# HELP up Whether it is.",
    "# TYPE up gauge",
    'up{worker="a"} 1',
    "# HELP lat Time.",
    "# TYPE lat histogram",
    'lat_bucket{le="1",worker="a"} 2',
    'lat_sum{worker="a"} 0.5',
    'lat_count{worker="a"} 2',
    "",
  ].join("\n");
  const b = [
    "# a remark",
    "# HELP lat Another text.",
    "# TYPE lat histogram",
    'lat_bucket{le="1",worker="b"} 3',
    'lat_count{worker="b"} 3',
    "",
    "# TYPE only_b counter",
    "only_b 7",
    "# HELP up Differs.",
    "# TYPE up gauge",
    'up{worker="b"} 0',
    "",
  ].join("\r\n");
  assert.equal(
    mergeExpositions([a, b]),
    [
      "# HELP up Whether it is.",
      "# TYPE up gauge",
      'up{worker="a"} 1',
      'up{worker="b"} 0',
      "# HELP lat Time.",
      "# TYPE lat histogram",
      'lat_bucket{le="1",worker="a"} 2',
      'lat_sum{worker="a"} 0.5',
      'lat_count{worker="a"} 2',
      'lat_bucket{le="1",worker="b"} 3',
      'lat_count{worker="b"} 3',
      "# TYPE only_b counter",
      "only_b 7",
      "",
    ].join("\n"),
  );
});

Deno.test("mergeExpositions() gives a sample without a header of its own a family of its own", () => {
  const text = mergeExpositions([
    "# TYPE a counter\na 1\nab 2\na_b 3\n",
    "a 4\n# TYPE empty gauge\n",
  ]);
  // `ab` is no extension of `a`; the second source starts without a current family, so `a` is found by name.
  assert.equal(text, "# TYPE a counter\na 1\na_b 3\na 4\nab 2\n");
});

Deno.test("mergeExpositions() of nothing is nothing", () => {
  assert.equal(mergeExpositions([]), "");
  assert.equal(mergeExpositions(["", "\n# c\n"]), "");
});
