import assert from "node:assert/strict";
import { type Edge, violationOf } from "./check_imports.ts";

function edges(text: string): Edge[] {
  return text.trim().split("\n").map((line) => {
    const [from, to] = line.trim().split(" -> ");
    return { from: from!, to: to! };
  });
}

Deno.test("violationOf() allows what the table lists, by the front door", () => {
  const allowed = edges(`
    main.ts -> src/cli/mod.ts
    src/cli/commands/serve.ts -> src/worker/mod.ts
    src/worker/worker.ts -> src/scheduler/mod.ts
    src/worker/worker.ts -> src/worker/hooks/pool.ts
    src/worker/worker.ts -> deno.json
    src/bundle/weights.ts -> ffi/libc/mod.ts
    src/runtime/pjrt/client.ts -> ffi/pjrt/mod.ts
    src/runtime/pjrt/client.ts -> src/runtime/pjrt/gen/xla_pb.ts
    src/config/rows.ts -> src/errors.ts
    src/protocol/infer.ts -> src/protocol/gen/inference_pb.ts
    src/transport/grpc/server_test.ts -> tests/harness/python.ts
    ffi/pjrt/plugin.ts -> ffi/libc/dynamic_library.ts
    scripts/bench/infer.ts -> src/runtime/pjrt/client.ts
    tests/ffi/libc_test.ts -> ffi/libc/mmap.ts`);
  for (const edge of allowed) assert.equal(violationOf(edge), undefined, JSON.stringify(edge));
});

Deno.test("violationOf() names the rule an import breaks", () => {
  const cases: [string, RegExp][] = [
    ["src/gateway/x.ts -> src/bundle/mod.ts", /gateway may not import bundle/],
    ["src/gateway/x.ts -> ffi/libc/mod.ts", /gateway may not import ffi\/libc/],
    ["src/scheduler/x.ts -> src/runtime/mod.ts", /scheduler may not import runtime/],
    ["src/bundle/x.ts -> ffi/pjrt/mod.ts", /bundle may not import ffi\/pjrt/],
    ["src/bundle/x.ts -> ffi/mod.ts", /bundle may not import ffi$/],
    ["ffi/libc/x.ts -> src/errors.ts", /ffi\/libc may not import errors\.ts/],
    ["src/errors.ts -> src/log.ts", /errors\.ts may not import log\.ts/],
    ["src/supervisor/x.ts -> src/worker/mod.ts", /supervisor may not import worker/],
    ["main.ts -> src/worker/mod.ts", /main\.ts may not import worker/],
    ["src/worker/x.ts -> src/scheduler/queue.ts", /from outside scheduler import its mod\.ts/],
    ["src/worker/x.ts -> ffi/libc/mmap.ts", /from outside ffi\/libc import its mod\.ts/],
    ["src/cli/x.ts -> scripts/setup.ts", /no part of the program/],
    ["src/worker/x.ts -> tests/harness/python.ts", /no part of the program/],
  ];
  for (const [edge, expected] of cases) {
    const message = violationOf(edges(edge)[0]!);
    assert.match(message ?? "allowed", expected, edge);
  }
});
