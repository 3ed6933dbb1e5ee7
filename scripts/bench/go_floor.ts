/**
 * Builds and starts `go_floor/`: the Go server with a canned answer that the published figures of other
 * servers stand beside. It gives the scale of this machine: what takes that server twice as long here
 * takes everyone longer.
 */

import { fileURLToPath } from "node:url";
import { PortProcess } from "../../tests/conformance/grpc_interop/tools.ts";
import { findGo } from "../../tests/harness/go_tools.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const SOURCE = fileURLToPath(new URL("go_floor/", import.meta.url));

export type GoFloor = Pick<PortProcess, "port"> & AsyncDisposable;

/**
 * Serves the message in a file until disposed. `undefined` without Go.
 * @throws {Error} with the compiler's own words when it cannot be built
 */
export async function startGoFloor(answer: string): Promise<GoFloor | undefined> {
  const go = findGo();
  if (go === undefined) return undefined;
  const program = `${ROOT}.cache/go/bin/go_floor`;
  const { success, stderr } = await new Deno.Command(go, {
    args: ["build", "-o", program, "."],
    cwd: SOURCE,
    env: { GOPATH: `${ROOT}.cache/go/path`, GOFLAGS: "-modcacherw -mod=readonly" },
  }).output();
  if (!success) throw new Error(`go_floor: ${new TextDecoder().decode(stderr)}`);
  const process = await PortProcess.start(program, [answer]);
  return { port: process.port, [Symbol.asyncDispose]: () => process.stop() };
}
