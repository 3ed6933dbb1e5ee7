import assert from "node:assert/strict";
import { ExitCauses } from "./exit_causes.ts";

const KILLED = { code: 137, signal: "SIGKILL" };
const CRASHED = { code: 1, signal: null };

/** The files of a container with 512 MiB and 50 processes, which the test changes. */
function container(): Record<string, string> {
  return {
    "/proc/meminfo": "MemTotal: 8388608 kB\n",
    "/proc/self/cgroup": "0::/\n",
    "/sys/fs/cgroup/memory.max": "536870912\n",
    "/sys/fs/cgroup/memory.events": "max 900\noom 2\noom_kill 2\n",
    "/sys/fs/cgroup/pids.max": "50\n",
    "/sys/fs/cgroup/pids.events": "max 0\n",
  };
}

Deno.test("ExitCauses tells a kill for want of memory from any other, once for each", () => {
  const files = container();
  const causes = new ExitCauses((path) => files[path]);
  assert.equal(causes.explain("worker0", KILLED), undefined);
  files["/sys/fs/cgroup/memory.events"] = "max 950\noom 4\noom_kill 4\n";
  assert.equal(causes.explain("worker0", { code: 139, signal: "SIGSEGV" }), undefined);
  for (const name of ["worker0", "worker1"]) {
    assert.match(
      causes.explain(name, KILLED)!,
      new RegExp(
        `^the kernel killed ${name} for want of memory: the control group allows 512 MiB `,
      ),
    );
  }
  assert.equal(causes.explain("worker0", KILLED), undefined);
});

Deno.test("ExitCauses blames the machine where no group bounds the memory", () => {
  const files = container();
  files["/sys/fs/cgroup/memory.max"] = "max\n";
  const causes = new ExitCauses((path) => files[path]);
  files["/sys/fs/cgroup/memory.events"] = "oom_kill 3\n";
  assert.match(causes.explain("worker0", KILLED)!, /the machine has 8192 MiB for everything/);
});

Deno.test("ExitCauses tells a child that was refused a thread", () => {
  const files = container();
  const causes = new ExitCauses((path) => files[path]);
  assert.equal(causes.explain("worker0", CRASHED), undefined);
  files["/sys/fs/cgroup/pids.events"] = "max 7\n";
  assert.equal(causes.explain("worker0", { code: 0, signal: null }), undefined);
  assert.match(
    causes.explain("worker0", CRASHED)!,
    /^worker0 ended after it was refused a thread: the control group allows 50 processes and threads/,
  );
  assert.equal(causes.explain("worker0", CRASHED), undefined);
});

Deno.test("ExitCauses knows nothing where the kernel counts nothing", () => {
  const causes = new ExitCauses(() => undefined);
  assert.equal(causes.explain("worker0", KILLED), undefined);
  assert.equal(causes.explain("worker0", CRASHED), undefined);
});
