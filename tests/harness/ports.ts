/**
 * Free ports for servers that tests start. A port that is free now may be taken before the server binds
 * it, so whoever draws one keeps it from all other processes that draw here, until it ends.
 */

/**
 * Linux draws ports of outgoing connections from 32768 up (`ip_local_port_range`): below them none of those
 * takes one meanwhile.
 */
const FIRST_PORT = 15_000;
const PORTS = 17_000;

/** A port of 127.0.0.1 that nobody listens on, and that no other test gets while this process lives. */
export function freePort(): number {
  return freePorts(1)[0]!;
}

/** As many such ports in a row. */
export function freePorts(count: number): number[] {
  const folder = Deno.env.get("TMPDIR") ?? "/tmp";
  using file = Deno.openSync(`${folder}/reactantserver-test-ports-${Deno.uid()}`, {
    ...{ read: true, write: true, create: true },
  });
  // Held until the file is closed; everything below is a matter of microseconds.
  file.lockSync(true);
  const claims = readClaims(file);
  for (;;) {
    const first = FIRST_PORT + Math.floor(Math.random() * (PORTS - count));
    const row = Array.from({ length: count }, (_, index) => first + index);
    if (row.some((port) => claims.has(port)) || !row.every(isFree)) continue;
    for (const port of row) claims.set(port, Deno.pid);
    const text = Array.from(claims, ([port, pid]) => `${port} ${pid}\n`).join("");
    file.truncateSync();
    file.seekSync(0, Deno.SeekMode.Start);
    file.writeSync(new TextEncoder().encode(text));
    return row;
  }
}

/** Whether nobody listens on a port of 127.0.0.1 right now. */
export function isFree(port: number): boolean {
  try {
    Deno.listen({ hostname: "127.0.0.1", port }).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) return false;
    throw error;
  }
}

/** Ports by the processes that drew them and still run. */
function readClaims(file: Deno.FsFile): Map<number, number> {
  const bytes = new Uint8Array(file.statSync().size);
  file.readSync(bytes);
  const claims = new Map<number, number>();
  for (const line of new TextDecoder().decode(bytes).split("\n").filter(Boolean)) {
    const [port, pid] = line.split(" ").map(Number) as [number, number];
    if (isRunning(pid)) claims.set(port, pid);
  }
  return claims;
}

function isRunning(pid: number): boolean {
  try {
    return Deno.statSync(`/proc/${pid}`).isDirectory;
  } catch {
    return false;
  }
}
