/** Telling processes apart: an id alone is given to another process after a while. */

/** When a process was started, in the kernel's ticks since boot; `undefined` when it is not there. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}
