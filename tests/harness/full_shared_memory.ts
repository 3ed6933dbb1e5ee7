/**
 * A whole server and its client in a /dev/shm that gets full: for a mount namespace of its own, where a
 * small tmpfs lies there. Prints, as JSON, how each request ended.
 */

import { ServerError } from "../../src/errors.ts";
import {
  GRPCInferenceService,
  responseTensors,
  sharedMemoryParameters,
} from "../../src/protocol/mod.ts";
import { temporaryDirectory } from "./bundle_builder.ts";
import { connect } from "./client.ts";
import { writeDouble } from "./double_bundle.ts";
import { startServer } from "./server.ts";

/** FP32 elements; 16 pages. */
const WIDTH = 16_384;
const BYTES = 4 * WIDTH;
const PATH = "/dev/shm/reactant-sparse";
const FILLER = "/dev/shm/reactant-filler";

async function run(): Promise<Record<string, string>> {
  await using folder = await temporaryDirectory();
  await writeDouble(folder.path, "double", { dtype: "f32", width: WIDTH, sizes: [1] });
  await using server = await startServer({ modelDirs: [folder.path] });
  await using client = connect(server);
  const { inference } = client;
  const ones = new Uint8Array(new Float32Array(WIDTH).fill(1).buffer);
  // Nothing but a length: no page has memory yet.
  using sparse = Deno.openSync(PATH, { read: true, write: true, create: true });
  sparse.truncateSync(2 * BYTES);
  const register = () =>
    inference.call(GRPCInferenceService.method.systemSharedMemoryRegister, {
      name: "sparse",
      key: "/reactant-sparse",
      byteSize: BigInt(2 * BYTES),
    });
  const place = (offset: number) =>
    sharedMemoryParameters({ region: "sparse", offset, byteSize: BYTES });
  const infer = async (from: "wire" | "region", to: "wire" | "region"): Promise<string> => {
    try {
      const answer = await inference.inferRaw({
        modelName: "double",
        inputs: [{
          name: "x",
          datatype: "FP32",
          shape: [1, WIDTH],
          ...(from === "wire" ? { data: ones } : { data: undefined, parameters: place(0) }),
        }],
        outputs: to === "wire" ? [] : [{ name: "y", parameters: place(BYTES) }],
      });
      const data = to === "wire"
        ? responseTensors(answer)[0]!.data.slice()
        : Deno.readFileSync(PATH).slice(BYTES);
      return [...new Set(new Float32Array(data.buffer))].join();
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      return `${error.status}: ${error.message}`;
    }
  };
  const fill = () => {
    const filler = Deno.openSync(FILLER, { write: true, create: true });
    try {
      for (;;) filler.writeSync(new Uint8Array(4096));
    } catch (error) {
      if ((error as { code?: unknown }).code !== "ENOSPC") throw error;
    } finally {
      filler.close();
    }
  };

  const found: Record<string, string> = {};
  await register();
  fill();
  found["a result into a hole"] = await infer("wire", "region");
  found["again, now through the descriptor"] = await infer("wire", "region");
  found["an input from a hole, through the descriptor"] = await infer("region", "wire");
  await register();
  found["an input from a hole, in place"] = await infer("region", "wire");
  Deno.removeSync(FILLER);
  await register();
  found["with room again"] = await infer("wire", "region");
  sparse.seekSync(0, Deno.SeekMode.Start);
  sparse.writeSync(ones);
  found["both in place"] = await infer("region", "region");
  return found;
}

if (import.meta.main) console.log(JSON.stringify(await run()));
