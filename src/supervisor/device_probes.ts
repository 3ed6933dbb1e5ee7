/** Looking at this machine for devices. */

import type { DeviceProbes } from "./device_detection.ts";

/** A driver that hangs must not keep a node from starting; its device files still count. */
const DRIVER_TIMEOUT_MS = 10_000;
/** How long one that was killed may take to go. */
const KILL_MS = 1000;

/** The probes of this machine. */
export const machineProbes: DeviceProbes = {
  queryDriver: () => queryDriver("nvidia-smi"),
  async listDeviceFiles() {
    const names: string[] = [];
    try {
      for await (const { name } of Deno.readDir("/dev")) names.push(name);
    } catch {
      // A machine without a readable /dev shows no devices there.
    }
    return names;
  },
};

/** The device indices that a tool like `nvidia-smi` prints; none when it is missing, fails or hangs. */
export async function queryDriver(
  program: string,
  timeoutMs: number = DRIVER_TIMEOUT_MS,
): Promise<string[]> {
  const { promise: late, resolve: giveUp } = Promise.withResolvers<undefined>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    const child = new Deno.Command(program, {
      args: ["--query-gpu=index", "--format=csv,noheader"],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    timer = setTimeout(() => {
      child.kill("SIGKILL");
      // A process stuck in the kernel does not even end of this, so nobody waits for it long.
      child.unref();
      timer = setTimeout(() => giveUp(undefined), KILL_MS);
    }, timeoutMs);
    const output = await Promise.race([child.output(), late]);
    if (!output?.success) return [];
    return new TextDecoder().decode(output.stdout).split("\n").map((line) => line.trim())
      .filter((line) => /^\d+$/.test(line));
  } catch {
    // Not installed, or not allowed to run: then it has nothing to say.
    return [];
  } finally {
    clearTimeout(timer);
  }
}
