import assert from "node:assert/strict";
import { blocksOf, commandsOf, isRun, proseOf, scriptOf } from "./page.ts";

const block = (info: string, text: string) =>
  blocksOf("docs/x.md", `a\n\n\`\`\`${info}\n${text}\n\`\`\`\n\nb\n`)[0]!;

Deno.test("blocksOf() gives place, words and text, and proseOf() the rest", () => {
  assert.deepEqual(block("sh exit=2", "one\ntwo"), {
    place: "docs/x.md:3",
    language: "sh",
    words: ["exit=2"],
    text: "one\ntwo\n",
  });
  assert.equal(proseOf("a\n\n```sh\nx --flag\n```\n\nb\n"), "a\n\n\n\nb\n");
  assert.throws(() => blocksOf("docs/x.md", "```sh\nno end\n"), TypeError);
});

Deno.test("isRun() leaves out what is not run, or run elsewhere", () => {
  for (const info of ["sh", "sh exit=1", "sh needs=make", "sh short=rounds:1", "sh server keep"]) {
    assert.ok(isRun(block(info, "true")), info);
  }
  for (
    const info of ["sh no-run no room", "sh run-in=a.md", "sh run-by=a.ts short=rounds:1", "ts"]
  ) {
    assert.ok(!isRun(block(info, "true")), info);
  }
});

Deno.test("scriptOf() shortens the lengths that a block names and nothing else", () => {
  const text = "soak --seconds 600 --rate 150\nsoak --seconds=90 # 600 s";
  assert.equal(scriptOf(block("sh", text)), `${text}\n`);
  assert.equal(
    scriptOf(block("sh short=seconds:5", text)),
    "soak --seconds 5 --rate 150\nsoak --seconds=5 # 600 s\n",
  );
  for (
    const short of [
      ...["rate:1", "interval:1", "seconds:90", "seconds:1000", "seconds", "seconds:x"],
    ]
  ) {
    assert.throws(() => scriptOf(block(`sh short=${short}`, text)), TypeError, short);
  }
});

Deno.test("commandsOf() joins lines and drops what is said aside", () => {
  assert.deepEqual(commandsOf(block("sh", "a --b \\\n  c  # why\n# only said\n\nd")), [
    "a --b c",
    "d",
  ]);
});
