/** Messages of 100 MiB pass through a gateway of its own process, which keeps nothing of them. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { FakeWorker, INFER } from "../../src/gateway/testing.ts";
import { encodeInferRequest } from "../../src/protocol/mod.ts";
import { GrpcClient, joinMessage, messageLength } from "../../src/transport/mod.ts";
import { startGateway } from "../harness/fleet.ts";

const MESSAGE_BYTES = 100 << 20;
const PER_ROUND = 2;
/** A leak fails all of them: more only give noise more chances to settle. */
const MAX_ROUNDS = 20;
/** Of 200 MiB in and as much out, a round may leave this little. */
const FLAT_BYTES = 50 << 20;

Deno.test("messages of 100 MiB go through a gateway and leave nothing in it", async () => {
  await using worker = await FakeWorker.start();
  // What comes goes back, without a copy here either.
  worker.infer = (message) => message;
  await using gateway = await startGateway(["--gateway-workers", worker.id]);
  const client = new GrpcClient({
    target: `127.0.0.1:${gateway.grpcPort}`,
    maxReceiveBytes: 2 ** 29,
  });
  try {
    const data = new Uint8Array(MESSAGE_BYTES);
    for (let at = 0; at < data.length; at += 4096) data[at] = at >>> 12;
    const request = encodeInferRequest({
      modelName: "m",
      inputs: [{ name: "x", datatype: "UINT8", shape: [MESSAGE_BYTES], data }],
    });
    const grown: number[] = [];
    let last = Infinity;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      for (let count = 0; count < PER_ROUND; count++) {
        const { message } = await client.unary(INFER, request);
        assert.equal(messageLength(message), messageLength(request));
        if (round === 0) {
          assert.equal(Buffer.compare(joinMessage(message), joinMessage(request)), 0);
        }
      }
      const resident = await residentBytes(gateway.pid);
      grown.push(resident - last);
      last = resident;
      // The first round only says where the others begin.
      if (grown.filter((bytes) => bytes <= FLAT_BYTES).length >= 3) return;
    }
    assert.fail(`the gateway grew in every round, by ${grown.slice(1).join(", ")} bytes`);
  } finally {
    await client.close();
  }
});

async function residentBytes(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
}
