import assert from "node:assert/strict";
import type { HeaderField, HeaderList } from "./types.ts";
import { ConnectionError } from "./error_codes.ts";
import { HpackDecoder } from "./hpack_decoder.ts";
import { HpackEncoder } from "./hpack_encoder.ts";
import { hex } from "./test_support.ts";

const DATE1 = "Mon, 21 Oct 2013 20:13:21 GMT";
const DATE2 = "Mon, 21 Oct 2013 20:13:22 GMT";
const COOKIE = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";

const REQUESTS: HeaderList[] = [
  [[":method", "GET"], [":scheme", "http"], [":path", "/"], [":authority", "www.example.com"]],
  [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "www.example.com"],
    ["cache-control", "no-cache"],
  ],
  [
    [":method", "GET"],
    [":scheme", "https"],
    [":path", "/index.html"],
    [":authority", "www.example.com"],
    ["custom-key", "custom-value"],
  ],
];
const REQUEST_TABLES: HeaderField[][] = [
  [[":authority", "www.example.com"]],
  [["cache-control", "no-cache"], [":authority", "www.example.com"]],
  [["custom-key", "custom-value"], ["cache-control", "no-cache"], [
    ":authority",
    "www.example.com",
  ]],
];
const REQUEST_TABLE_BYTES = [57, 110, 164];

const RESPONSES: HeaderList[] = [
  [
    [":status", "302"],
    ["cache-control", "private"],
    ["date", DATE1],
    ["location", "https://www.example.com"],
  ],
  [
    [":status", "307"],
    ["cache-control", "private"],
    ["date", DATE1],
    ["location", "https://www.example.com"],
  ],
  [
    [":status", "200"],
    ["cache-control", "private"],
    ["date", DATE2],
    ["location", "https://www.example.com"],
    ["content-encoding", "gzip"],
    ["set-cookie", COOKIE],
  ],
];
const RESPONSE_TABLES: HeaderField[][] = [
  [
    ["location", "https://www.example.com"],
    ["date", DATE1],
    ["cache-control", "private"],
    [":status", "302"],
  ],
  [
    [":status", "307"],
    ["location", "https://www.example.com"],
    ["date", DATE1],
    ["cache-control", "private"],
  ],
  [["set-cookie", COOKIE], ["content-encoding", "gzip"], ["date", DATE2]],
];
const RESPONSE_TABLE_BYTES = [222, 222, 215];

interface Sequence {
  readonly name: string;
  readonly tableBytes: number;
  readonly blocks: readonly string[];
  readonly lists: readonly HeaderList[];
  readonly tables: readonly HeaderField[][];
  readonly sizes: readonly number[];
}

const SEQUENCES: Sequence[] = [
  {
    name: "C.3 requests without Huffman",
    tableBytes: 4096,
    blocks: [
      "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "8286 84be 5808 6e6f 2d63 6163 6865",
      "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ],
    lists: REQUESTS,
    tables: REQUEST_TABLES,
    sizes: REQUEST_TABLE_BYTES,
  },
  {
    name: "C.4 requests with Huffman",
    tableBytes: 4096,
    blocks: [
      "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
      "8286 84be 5886 a8eb 1064 9cbf",
      "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ],
    lists: REQUESTS,
    tables: REQUEST_TABLES,
    sizes: REQUEST_TABLE_BYTES,
  },
  {
    name: "C.5 responses without Huffman",
    tableBytes: 256,
    blocks: [
      "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a" +
      "3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "4803 3330 37c1 c0bf",
      "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04" +
      "677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49" +
      "553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ],
    lists: RESPONSES,
    tables: RESPONSE_TABLES,
    sizes: RESPONSE_TABLE_BYTES,
  },
  {
    name: "C.6 responses with Huffman",
    tableBytes: 256,
    blocks: [
      "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e" +
      "919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
      "4883 640e ffc1 c0bf",
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7" +
      "821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed" +
      "4ee5 b106 3d50 07",
    ],
    lists: RESPONSES,
    tables: RESPONSE_TABLES,
    sizes: RESPONSE_TABLE_BYTES,
  },
];

function decode(decoder: HpackDecoder, bytes: Uint8Array): HeaderList {
  return decoder.decode(bytes, 0, bytes.length).headers;
}

/** A decoder whose table has been given `bytes` by a size update (256 is 31 + 225). */
function decoderOf(bytes: number): HpackDecoder {
  const decoder = new HpackDecoder(1 << 20);
  if (bytes === 256) decode(decoder, hex("3f e1 01"));
  return decoder;
}

for (const { name, tableBytes, blocks, lists, tables, sizes } of SEQUENCES) {
  Deno.test(`HpackDecoder decodes RFC 7541 ${name}`, () => {
    const decoder = decoderOf(tableBytes);
    blocks.forEach((block, i) => {
      assert.deepEqual(decode(decoder, hex(block)), lists[i]);
      assert.deepEqual(decoder.tableFields, tables[i]);
      assert.equal(decoder.tableBytes, sizes[i]);
    });
  });
}

const SINGLE: [name: string, block: string, field: HeaderField, tableBytes: number][] = [
  [
    "C.2.1 literal with indexing",
    "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
    ["custom-key", "custom-header"],
    55,
  ],
  [
    "C.2.2 literal without indexing",
    "040c 2f73 616d 706c 652f 7061 7468",
    [":path", "/sample/path"],
    0,
  ],
  [
    "C.2.3 literal never indexed",
    "1008 7061 7373 776f 7264 0673 6563 7265 74",
    ["password", "secret", true],
    0,
  ],
  ["C.2.4 indexed field", "82", [":method", "GET"], 0],
];

for (const [name, block, field, tableBytes] of SINGLE) {
  Deno.test(`HpackDecoder decodes RFC 7541 ${name}`, () => {
    const decoder = new HpackDecoder(4096);
    assert.deepEqual(decode(decoder, hex(block)), [field]);
    assert.equal(decoder.tableBytes, tableBytes);
  });
}

Deno.test("HpackEncoder writes RFC 7541 C.4 byte for byte", () => {
  const encoder = new HpackEncoder();
  const { blocks, lists, sizes } = SEQUENCES[1]!;
  lists.forEach((list, i) => {
    const length = encoder.encode(list);
    assert.deepEqual(encoder.bytes.slice(0, length), hex(blocks[i]!));
    assert.equal(encoder.tableBytes, sizes[i]);
  });
});

// C.1.3, 42 in eight bits, has no counterpart: no field of HPACK has a prefix that wide.
Deno.test("HpackEncoder writes integers as RFC 7541 C.1 does: 10 and 1337 in five bits", () => {
  for (const [size, bytes] of [[10, "2a"], [1337, "3f 9a 0a"]] as const) {
    const encoder = new HpackEncoder();
    encoder.setMaxTableBytes(size);
    const length = encoder.encode([[":method", "GET"]]);
    assert.deepEqual(encoder.bytes.slice(0, length), hex(`${bytes} 82`));
  }
});

Deno.test("HpackEncoder announces the smallest and the final table size", () => {
  const encoder = new HpackEncoder();
  encoder.setMaxTableBytes(0);
  encoder.setMaxTableBytes(100);
  const length = encoder.encode([[":method", "GET"]]);
  // 0 fits the prefix; 100 is 31 + 69.
  assert.deepEqual(encoder.bytes.slice(0, length), hex("20 3f 45 82"));
});

Deno.test("HpackEncoder repeats known lists with equal bytes that still decode", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder(4096);
  const list: HeaderList = [[":status", "200"], ["content-type", "application/grpc"]];
  const lengths = [0, 1, 2, 3].map(() => {
    const length = encoder.encode(list);
    assert.deepEqual(decoder.decode(encoder.bytes, 0, length).headers, list);
    return length;
  });
  assert.deepEqual(lengths.slice(1), [2, 2, 2]);
  // Another insertion moves the index; the remembered bytes must not be used for it.
  for (const extra of ["a", "b", "c"]) {
    const length = encoder.encode([["x-extra", extra]]);
    assert.deepEqual(decoder.decode(encoder.bytes, 0, length).headers, [["x-extra", extra]]);
    const again = encoder.encode(list);
    assert.deepEqual(decoder.decode(encoder.bytes, 0, again).headers, list);
  }
});

Deno.test("HpackEncoder never indexes sensitive fields, and keeps a field's own mark", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder(4096);
  for (const field of [["authorization", "Bearer x"], ["x-token", "y", true]] as HeaderField[]) {
    for (let i = 0; i < 2; i++) {
      const length = encoder.encode([field]);
      const decoded = decoder.decode(encoder.bytes, 0, length).headers;
      assert.deepEqual(decoded, [[field[0], field[1], true]]);
    }
  }
  assert.equal(encoder.tableBytes, 0);
});

Deno.test("HpackEncoder stops indexing a name whose values never repeat", () => {
  const encoder = new HpackEncoder();
  for (let i = 0; i < 100; i++) encoder.encode([["x-request-id", `request-${i}`]]);
  const bytes = encoder.tableBytes;
  encoder.encode([["x-request-id", "one-more"]]);
  assert.equal(encoder.tableBytes, bytes);
  assert.ok(bytes < 1024, `${bytes} bytes are held by values that never come again`);
});

Deno.test("HpackEncoder refuses names and values that could break out of their field", () => {
  const encoder = new HpackEncoder();
  const bad: HeaderField[] = [
    ["Upper", "x"],
    ["", "x"],
    ["a b", "x"],
    ["x", "a\r\nb: c"],
    ["x", "nul\0"],
    ["x", " padded"],
    ["x", "\u20ac"],
    ["x:y", "v"],
  ];
  for (const field of bad) {
    assert.throws(() => encoder.encode([["ok", "1"], field]), { status: "INVALID_ARGUMENT" });
  }
  assert.equal(encoder.tableBytes, 0);
});

const BROKEN: [name: string, block: string][] = [
  ["index 0", "80"],
  ["an index beyond both tables", "be"],
  ["a name index beyond both tables", "7f 00 01 61"],
  ["an integer that never ends", "ff ff ff ff ff ff ff ff ff ff"],
  ["an integer cut short", "ff"],
  ["a string longer than the block", "40 05 61"],
  ["a block that ends before the value", "40 01 61"],
  ["a table size over the limit", "3f e2 1f"],
  ["a table size update after a field", "82 20"],
  ["Huffman padding of eight bits", "00 82 1f ff 01 61"],
  ["Huffman padding of zeros", "00 81 18 01 61"],
  ["Huffman EOS", "00 84 ff ff ff ff 01 61"],
];

for (const [name, block] of BROKEN) {
  Deno.test(`HpackDecoder refuses ${name}`, () => {
    const decoder = new HpackDecoder(4096);
    const bytes = hex(block);
    assert.throws(() => decoder.decode(bytes, 0, bytes.length), (error) => {
      assert.ok(error instanceof ConnectionError);
      assert.equal(error.code, 9);
      return true;
    });
  });
}

Deno.test("HpackDecoder demands a size update after its limit was lowered", () => {
  const decoder = new HpackDecoder(4096);
  decoder.setMaxTableBytes(100);
  assert.throws(() => decode(decoder, hex("82")), ConnectionError);
  const other = new HpackDecoder(4096);
  other.setMaxTableBytes(100);
  assert.deepEqual(decode(other, hex("3f 45 82")), [[":method", "GET"]]);
});

Deno.test("HpackDecoder evicts what a smaller table cannot hold", () => {
  const decoder = new HpackDecoder(4096);
  decode(decoder, hex("40 01 61 01 31 40 01 62 01 32")); // a: 1, b: 2; 34 bytes each
  assert.equal(decoder.tableBytes, 68);
  decode(decoder, hex("3f 04")); // 35
  assert.deepEqual(decoder.tableFields, [["b", "2"]]);
  decode(decoder, hex("20"));
  assert.equal(decoder.tableBytes, 0);
});

Deno.test("HpackDecoder gives up a list over the limit and keeps its table right", () => {
  const decoder = new HpackDecoder(100);
  const block = decoder.decode(hex("40 01 61 01 31 40 01 62 01 32 40 01 63 01 33"), 0, 15);
  assert.equal(block.isTooLarge, true);
  assert.equal(block.headers.length, 2);
  assert.deepEqual(decode(decoder, hex("be")), [["c", "3"]]);
});

Deno.test("HpackDecoder holds entries larger than any block's share in a large table", () => {
  const decoder = new HpackDecoder(1 << 20);
  decoder.setMaxTableBytes(1 << 16);
  decode(decoder, hex("3f e1 ff 03")); // 65 536
  for (let i = 0; i < 1000; i++) {
    const value = String(i).padStart(4, "0");
    decode(decoder, hex(`40 01 61 04 ${[...value].map((c) => `3${c}`).join("")}`));
  }
  assert.equal(decoder.tableFields.length, 1000);
  assert.deepEqual(decoder.tableFields[0], ["a", "0999"]);
  assert.deepEqual(decoder.tableFields[999], ["a", "0000"]);
});

Deno.test("HpackDecoder knows a block again, whatever blocks with values of their own come between", () => {
  const decoder = new HpackDecoder(4096);
  const decodeAll = (bytes: number[]) => decode(decoder, Uint8Array.from(bytes));
  // :method GET and :path / from the static table; then with a literal value of `accept` (19), not indexed.
  const plain = [0x82, 0x84];
  const literal = (value: string) => [
    ...plain,
    ...[0x0f, 0x04, value.length],
    ...new TextEncoder().encode(value),
  ];
  const first = decodeAll(plain);
  for (let at = 0; at < 100; at++) {
    assert.deepEqual(decodeAll(literal(`${at}u`)), [...first, ["accept", `${at}u`]]);
  }
  assert.equal(decodeAll(plain), first);
  // One that is sent again and again is known too.
  const lists = Array.from({ length: 4 }, () => decodeAll(literal("text")));
  assert.deepEqual(lists[0], [...first, ["accept", "text"]]);
  assert.equal(lists[3], lists[2]);
});
