import assert from "node:assert/strict";
import { ManifestError } from "../errors.ts";
import { DATATYPES } from "../tensor/mod.ts";
import { batchInputOf, type Manifest, parseManifest } from "./manifest.ts";

const IMAGE = `
format_version: 2.0
executable_inputs:
  - name: image
    dtype: f32
    shape: whcn
    dims: {w: 200, h: 100, c: 3}
executable_outputs:
  - {name: scores, dtype: f32, shape: dn, dims: {d: 10}}
`;

function parse(text: string, hasHook = false): Manifest {
  return parseManifest("m", text, hasHook);
}

function refuses(text: string, message: RegExp, hasHook = false): void {
  assert.throws(() => parse(text, hasHook), (error: unknown) => {
    assert.ok(error instanceof ManifestError, String(error));
    assert.match(error.message, message);
    assert.match(error.message, /^Cannot load model "m": /);
    return true;
  });
}

/** A model with one unbatched input and output `x`, `y`; `change` replaces or adds lines. */
function minimal(...lines: string[]): string {
  return [
    "format_version: 2.0",
    "executable_inputs: [{name: x, dtype: f32, shape: d, dims: {d: 3}}]",
    "executable_outputs: [{name: y, dtype: f32, shape: ''}]",
    ...lines,
  ].join("\n");
}

function withInput(entry: string, ...lines: string[]): string {
  return [
    "format_version: 2.0",
    `executable_inputs: [${entry}]`,
    "executable_outputs: [{name: y, dtype: f32, shape: ''}]",
    ...lines,
  ].join("\n");
}

Deno.test("parseManifest() reverses column-major letters into wire order", () => {
  const { executableInputs: [image], axisOrder } = parse(IMAGE);
  assert.equal(axisOrder, "column_major");
  assert.deepEqual(image, {
    name: "image",
    datatype: "FP32",
    shape: [-1, 3, 100, 200],
    letters: "nchw",
    batchAxis: 0,
    variableAxes: [],
  });
});

Deno.test("parseManifest() keeps row-major letters", () => {
  const text = IMAGE.replace("whcn", "nchw").replace("shape: dn", "shape: nd");
  const rowMajor = parse(text + "axis_order: row_major\n");
  const columnMajor = parse(IMAGE);
  assert.deepEqual(rowMajor.executableInputs, columnMajor.executableInputs);
  assert.deepEqual(rowMajor.executableOutputs, columnMajor.executableOutputs);
});

Deno.test("parseManifest() finds the batch axis wherever it is", () => {
  const last = parse(withInput("{name: x, dtype: i32, shape: bd, dims: {d: 7}}"));
  assert.equal(last.executableInputs[0]!.batchAxis, 1);
  assert.deepEqual(last.executableInputs[0]!.shape, [7, -1]);
  assert.deepEqual(batchInputOf(last), { name: "x", axis: 1 });
  assert.equal(batchInputOf(parse(minimal())), undefined);
});

Deno.test("parseManifest() accepts scalars, and letters that YAML 1.1 would read as booleans", () => {
  const manifest = parse(
    withInput("{name: x, dtype: f32, shape: n}, {name: y, dtype: f32, shape: b}"),
  );
  assert.deepEqual(manifest.executableInputs.map(({ shape }) => shape), [[-1], [-1]]);
  assert.deepEqual(manifest.executableOutputs[0]!.shape, []);
  const on = parse(withInput("{name: x, dtype: f32, shape: on, dims: {o: 2}}"));
  assert.deepEqual(on.executableInputs[0]!.shape, [-1, 2]);
});

Deno.test("parseManifest() reads every datatype token a program can have", () => {
  for (const { token, datatype, onWire, pjrtType } of DATATYPES) {
    const text = withInput(`{name: x, dtype: ${token}, shape: ''}`);
    if (onWire && pjrtType >= 0) assert.equal(parse(text).executableInputs[0]!.datatype, datatype);
    else refuses(text, /executable_inputs\[0\]\.dtype.*client_inputs/);
  }
});

Deno.test("parseManifest() lets client sections have BYTES, and programs FP8 behind them", () => {
  const manifest = parse(
    `
format_version: 2
executable_inputs: [{name: ids, dtype: f8_e4m3, shape: sn, dims: {s: 8}}]
executable_outputs: [{name: y, dtype: f32, shape: n}]
client_inputs: [{name: text, dtype: bytes, shape: n}]
`,
    true,
  );
  assert.equal(manifest.clientInputs[0]!.datatype, "BYTES");
  assert.equal(manifest.executableInputs[0]!.datatype, "FP8_E4M3FN");
  assert.deepEqual(manifest.clientOutputs, manifest.executableOutputs);
});

Deno.test("parseManifest() reads a meta model", () => {
  const manifest = parse(
    `
format_version: "2.0"
kind: meta
meta: {calls: [detector, classifier]}
client_inputs: [{name: image, dtype: u8, shape: cwhn, dims: {c: 3, w: -1, h: -1}}]
client_outputs: [{name: label, dtype: i64, shape: n}]
`,
    true,
  );
  assert.equal(manifest.kind, "meta");
  assert.deepEqual(manifest.calls, ["detector", "classifier"]);
  assert.deepEqual(manifest.variants, []);
  assert.deepEqual(manifest.clientInputs[0]!.variableAxes, [
    { letter: "h", axis: 1 },
    { letter: "w", axis: 2 },
  ]);
});

Deno.test("parseManifest() resolves shape variants", () => {
  const manifest = parse(`
format_version: 2.0
executable_inputs:
  - {name: ids, dtype: i32, shape: sn, dims: {s: -1}}
  - {name: mask, dtype: bool, shape: tsn, dims: {s: -1, t: -1}}
executable_outputs: [{name: y, dtype: f32, shape: dn, dims: {d: -1}}]
input_shapes:
  - {s: 16, t: 4}
  - {t: 8, s: 16}
`);
  // Wire order: ids [n, s]; mask [n, s, t].
  assert.deepEqual(manifest.variants.map(({ key }) => key), [[16, 16, 4], [16, 16, 8]]);
  assert.deepEqual(manifest.variants.map(({ index }) => index), [0, 1]);
});

Deno.test("parseManifest() sorts batch sizes and drops repeats", () => {
  const manifest = parse(minimal("batching: {compiled_batch_sizes: [8, 1, 8]}"));
  assert.deepEqual(manifest.compiledBatchSizes, [1, 8]);
});

Deno.test("parseManifest() warns about unknown keys and names the nearest known one", () => {
  const manifest = parse(minimal("desription: hi", "zzz: 1", "batching: {max: 3}"));
  assert.deepEqual(manifest.warnings, [
    'manifest key "desription" is unknown and ignored; did you mean "description"?',
    'manifest key "zzz" is unknown and ignored',
    'manifest key "batching.max" is unknown and ignored',
  ]);
});

Deno.test("parseManifest() leaves provenance alone", () => {
  const manifest = parse(minimal("provenance: {git: {commit: abc, dirty: true}, any: [thing]}"));
  assert.deepEqual(manifest.warnings, []);
  assert.equal(manifest.provenance.size, 2);
  assert.equal(parse(minimal("provenance: text")).provenance.size, 0);
});

Deno.test("parseManifest() reads a leading zero as octal, as the original does", () => {
  const text = withInput("{name: x, dtype: f32, shape: d, dims: {d: 010}}");
  assert.deepEqual(parse(text).executableInputs[0]!.shape, [8]);
});

const bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" +
  [..."bcdefghi"].map((c, i) => `${c}: &${c} [${Array(9).fill(`*${"abcdefghi"[i]}`)}]`).join("\n");

const REFUSED: [string, string, RegExp, boolean?][] = [
  ["text that is not YAML", "a: [1,", /not valid YAML: .*, line 1$/],
  ["an empty file", "", /must hold a mapping, got null/],
  ["a list", "- 1", /must hold a mapping, got a list/],
  ["two documents", "a: 1\n---\nb: 1", /multiple documents/],
  ["a custom tag", minimal("name: !run x"), /Unresolved tag/],
  ["an alias bomb", bomb, /not valid YAML: .*alias/i],
  ["deep nesting", "a: " + "[".repeat(100_000), /not valid YAML/],
  ["a key twice", minimal("kind: model", "kind: meta"), /the key "kind" twice/],
  ["a nested key twice", minimal("provenance: {a: 1, a: 2}"), /the key "a" twice/],
  ["no version", "executable_inputs: []", /"format_version" is required/],
  ["another version", "format_version: 1.0", /"format_version" must be 2.0, got 1/],
  ["an unknown kind", minimal("kind: pipeline"), /"kind" must be model or meta, got "pipeline"/],
  ["an unknown order", minimal("axis_order: C"), /"axis_order" must be column_major or row_major/],
  ["a mistyped order", minimal("axis_ordr: row_major"), /did you mean "axis_order"/],
  ["a list as description", minimal("description: [a]"), /"description" must be a single value/],
  ["no inputs", "format_version: 2.0", /"executable_inputs" is required for kind: model/],
  ["a null section", "format_version: 2.0\nexecutable_inputs:", /must be a list, got null/],
  ["an entry of text", withInput("x"), /"executable_inputs\[0\]" must be a mapping, got "x"/],
  ["a missing name", withInput("{dtype: f32, shape: ''}"), /\[0\]\.name" is required/],
  ["a number as name", withInput("{name: 1, dtype: f32, shape: ''}"), /name" must be a string/],
  ["an empty name", withInput("{name: '', dtype: f32, shape: ''}"), /name" must not be empty/],
  [
    "a long name",
    withInput(`{name: ${"x".repeat(2000)}, dtype: f32, shape: ''}`),
    /at most 1024 characters/,
  ],
  ["a missing datatype", withInput("{name: x, shape: ''}"), /\[0\]\.dtype" is required/],
  [
    "an unknown datatype",
    withInput("{name: x, dtype: FP32, shape: ''}"),
    /must be one of bool, u8/,
  ],
  ["a missing shape", withInput("{name: x, dtype: f32}"), /\[0\]\.shape" is required/],
  ["a null shape", withInput("{name: x, dtype: f32, shape: }"), /shape" must be a string/],
  ["a list as shape", withInput("{name: x, dtype: f32, shape: [d]}"), /got a list/],
  ["a digit in a shape", withInput("{name: x, dtype: f32, shape: d3}"), /one letter per axis/],
  ["an umlaut in a shape", withInput("{name: x, dtype: f32, shape: ä}"), /one letter per axis/],
  [
    "a letter twice",
    withInput("{name: x, dtype: f32, shape: dd, dims: {d: 1}}"),
    /letter "d" twice/,
  ],
  [
    "two batch letters",
    withInput("{name: x, dtype: f32, shape: nb}"),
    /two batch axes, "n" and "b"/,
  ],
  ["null dims", withInput("{name: x, dtype: f32, shape: d, dims: }"), /dims" must be a mapping/],
  ["a missing size", withInput("{name: x, dtype: f32, shape: d}"), /dims\.d" is required/],
  ["a size of 0", withInput("{name: x, dtype: f32, shape: d, dims: {d: 0}}"), /at least 1, or -1/],
  [
    "a size of -2",
    withInput("{name: x, dtype: f32, shape: d, dims: {d: -2}}"),
    /at least 1, or -1/,
  ],
  ["NaN as a size", withInput("{name: x, dtype: f32, shape: d, dims: {d: .nan}}"), /got NaN/],
  ["infinity as a size", withInput("{name: x, dtype: f32, shape: d, dims: {d: .inf}}"), /Infinity/],
  ["a float as a size", withInput("{name: x, dtype: f32, shape: d, dims: {d: 3.0}}"), /an integer/],
  ["text as a size", withInput("{name: x, dtype: f32, shape: d, dims: {d: '3'}}"), /an integer/],
  [
    "a huge size",
    withInput("{name: x, dtype: f32, shape: d, dims: {d: 99999999999999999999999}}"),
    /must be at most 2147483647/,
  ],
  [
    "a huge tensor",
    withInput("{name: x, dtype: f64, shape: cde, dims: {c: 2000000000, d: 2000000000, e: 9}}"),
    /dims" describe a tensor of/,
  ],
  [
    "a batch letter in dims",
    withInput("{name: x, dtype: f32, shape: n, dims: {n: 1}}"),
    /batch axis/,
  ],
  [
    "an unused letter",
    withInput("{name: x, dtype: f32, shape: '', dims: {d: 1}}"),
    /names no axis/,
  ],
  ["a word in dims", withInput("{name: x, dtype: f32, shape: d, dims: {dd: 1}}"), /single letters/],
  [
    "a number in dims",
    withInput("{name: x, dtype: f32, shape: d, dims: {1: 1}}"),
    /single letters/,
  ],
  [
    "a name twice",
    withInput("{name: x, dtype: f32, shape: ''}, {name: x, dtype: f32, shape: ''}"),
    /two tensors named "x"/,
  ],
  [
    "batched and unbatched inputs",
    withInput("{name: x, dtype: f32, shape: n}, {name: y, dtype: f32, shape: ''}"),
    /batch axis in all tensors or in none; these have none: "y"/,
  ],
  [
    "client inputs without a hook",
    minimal("client_inputs: []"),
    /"client_inputs" needs a hook file/,
  ],
  ["client outputs without a hook", minimal("client_outputs: []"), /"client_outputs" needs a hook/],
  ["a meta without a hook", "format_version: 2.0\nkind: meta", /kind "meta" needs a hook file/],
  [
    "FP8 in a client section",
    minimal("client_inputs: [{name: t, dtype: f8_e5m2, shape: ''}]"),
    /client_inputs\[0\]\.dtype" is f8_e5m2, which clients cannot/,
    true,
  ],
  ["null batching", minimal("batching:"), /"batching" must be a mapping, got null/],
  ["null batch sizes", minimal("batching: {compiled_batch_sizes: }"), /must be a list, got null/],
  ["a batch size of 0", minimal("batching: {compiled_batch_sizes: [0]}"), /at least 1, got 0/],
  ["text as batch size", minimal("batching: {compiled_batch_sizes: ['8']}"), /an integer, got "8"/],
  ["input_shapes for fixed axes", minimal("input_shapes: [{d: 3}]"), /no executable input has/],
  [
    "variable axes without input_shapes",
    withInput("{name: x, dtype: f32, shape: d, dims: {d: -1}}"),
    /"input_shapes" is required: the executable inputs have variable axes \(d\)/,
  ],
];

const VARIABLE = "{name: x, dtype: f32, shape: st, dims: {s: -1, t: -1}}";
for (
  const [what, value, message] of [
    ["an empty list", "[]", /must not be empty/],
    ["a mapping", "{s: 1, t: 1}", /must be a list/],
    ["an entry of text", "[s]", /\[0\]" must be a mapping/],
    ["an entry with a word", "[{ss: 1}]", /single letters/],
    ["a size of 0", "[{s: 0, t: 1}]", /input_shapes\[0\]\.s" must be at least 1/],
    ["a float", "[{s: 1.5, t: 1}]", /must be an integer, got 1.5/],
    ["an unknown letter", "[{s: 1, t: 1, u: 1}]", /"u", which is not a variable axis \(t, s\)/],
    ["a missing letter", "[{s: 1}]", /no size for the variable axis "t"/],
    ["the same sizes twice", "[{s: 1, t: 2}, {t: 2, s: 1}]", /\[1\]" repeats input_shapes\[0\]/],
  ] as const
) {
  REFUSED.push([`input_shapes: ${what}`, withInput(VARIABLE, `input_shapes: ${value}`), message]);
}

const META = "format_version: 2.0\nkind: meta\n" +
  "client_inputs: [{name: x, dtype: f32, shape: ''}]\nclient_outputs: [{name: y, dtype: f32, shape: ''}]\n";
for (
  const [what, text, message] of [
    ["without calls", META, /"meta" is required/],
    ["with null calls", `${META}meta: {calls: }`, /"meta.calls" must be a list/],
    ["with a number as call", `${META}meta: {calls: [1]}`, /meta.calls\[0\]" must be a string/],
    ["that calls itself", `${META}meta: {calls: [m]}`, /must not be the meta model itself/],
    ["that calls twice", `${META}meta: {calls: [a, a]}`, /\[1\]" repeats "a"/],
    ["with input_shapes", `${META}meta: {calls: []}\ninput_shapes: []`, /must not be given/],
    ["without inputs", META.replace(/client_inputs: .*/, "client_inputs: []"), /must not be empty/],
  ] as const
) {
  REFUSED.push([`a meta ${what}`, text, message, true]);
}

for (const [what, text, message, hasHook] of REFUSED) {
  Deno.test(`parseManifest() refuses ${what}`, () => refuses(text, message, hasHook));
}

Deno.test("parseManifest() is quick about a file with nothing but keys, or nothing but mistakes", () => {
  // Quadratic work on either would take minutes.
  const keys = Array.from({ length: 25_000 }, (_, index) => `key${index}:`).join("\n");
  const start = performance.now();
  refuses(keys, /"format_version" is required/);
  refuses("! ".repeat(50_000), /at most one tag, line 1$/);
  assert.ok(performance.now() - start < 30_000);
});
