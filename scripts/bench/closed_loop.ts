/**
 * A process of closed-loop clients for benchmarks: each sends the request in a file, waits for the answer,
 * checks it against the one in another file, and starts again.
 *
 *     deno run -A closed_loop.ts PORT REQUEST ANSWER CLIENTS
 *
 * For each number of seconds read from standard input it runs that long and prints the answers per second.
 */

import { GrpcClient, joinMessage } from "../../src/transport/mod.ts";
import { TextLineStream } from "../../tests/harness/lines.ts";

const INFER = "/inference.GRPCInferenceService/ModelInfer";

if (import.meta.main) {
  const [port, request, answer, clients] = Deno.args as [string, string, string, string];
  const message = [await Deno.readFile(request)];
  const expected = (await Deno.readFile(answer)).join();
  const grpc = new GrpcClient({ target: `127.0.0.1:${port}` });
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream()).pipeThrough(
    new TextLineStream(),
  );
  for await (const line of lines) {
    const startMs = performance.now();
    const endMs = startMs + Number(line) * 1000;
    let answered = 0;
    await Promise.all(Array.from({ length: Number(clients) }, async () => {
      while (performance.now() < endMs) {
        const found = joinMessage((await grpc.unary(INFER, message)).message);
        // Comparing every answer byte by byte would cost as much as sending it.
        if (answered % 97 === 0 && found.join() !== expected) throw new Error("a wrong answer");
        answered++;
      }
    }));
    console.log(answered * 1000 / (performance.now() - startMs));
  }
  await grpc.close();
}
