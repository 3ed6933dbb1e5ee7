/** What a server is to see as one change, although several system calls make it. */

/**
 * Stops a process, does something, and lets the process go on: it sees nothing of what is half done, however
 * long the machine takes over it.
 */
export function whileStopped(pid: number, act: () => void): void {
  Deno.kill(pid, "SIGSTOP");
  try {
    // The signal is on its way; the kernel stops each thread at its next chance.
    while (stateOf(pid) !== "T");
    act();
  } finally {
    Deno.kill(pid, "SIGCONT");
  }
}

/** As proc_pid_stat(5) has it; the name before it may hold anything. */
function stateOf(pid: number): string {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(")") + 2)[0]!;
}
