import assert from "node:assert/strict";
import {
  groupCounts,
  groupMemoryBytes,
  groupMemoryUsed,
  groupTaskLimit,
  memoryLimitBytes,
} from "./control_group.ts";

const GiB = 2 ** 30;

/** A kernel with these files. */
const kernel = (files: Record<string, string>) => (path: string) => files[path];

Deno.test("memoryLimitBytes() is the tightest of the machine and the groups around the process", () => {
  const machine = { "/proc/meminfo": "MemTotal:       8388608 kB\nMemFree:         19866648 kB\n" };
  assert.equal(memoryLimitBytes(kernel({})), undefined);
  assert.equal(memoryLimitBytes(kernel(machine)), 8 * GiB);
  const unified = { ...machine, "/proc/self/cgroup": "0::/pod.slice/worker.scope\n" };
  const root = "/sys/fs/cgroup";
  assert.equal(memoryLimitBytes(kernel({ ...unified, [`${root}/memory.max`]: "max\n" })), 8 * GiB);
  const nested = {
    ...unified,
    [`${root}/pod.slice/worker.scope/memory.max`]: `${4 * GiB}\n`,
    [`${root}/pod.slice/memory.max`]: `${2 * GiB}\n`,
    [`${root}/memory.max`]: "max\n",
  };
  assert.equal(memoryLimitBytes(kernel(nested)), 2 * GiB);
  // In a container that has no namespace for groups, only the root can be found.
  const container = { ...unified, [`${root}/memory.max`]: `${GiB}\n` };
  assert.equal(memoryLimitBytes(kernel(container)), GiB);
});

Deno.test("memoryLimitBytes() reads the first version of control groups too", () => {
  const files = {
    "/proc/meminfo": "MemTotal: 8388608 kB\n",
    "/proc/self/cgroup": "9:name=systemd:/\n4:memory:/a/b\n1:cpu:/\n0::/\n",
    // What the kernel has for none.
    "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n",
    "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": `${3 * GiB}\n`,
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    // Another controller's.
    "/sys/fs/cgroup/cpu/memory.limit_in_bytes": "1\n",
  };
  assert.equal(memoryLimitBytes(kernel(files)), 3 * GiB);
});

Deno.test("groupMemoryBytes() is of groups alone, and of none that allows more than there is", () => {
  const files = {
    "/proc/meminfo": "MemTotal: 8388608 kB\n",
    "/proc/self/cgroup": "0::/\n",
    "/sys/fs/cgroup/memory.max": `${2 * GiB}\n`,
  };
  assert.equal(groupMemoryBytes(kernel(files)), 2 * GiB);
  assert.equal(
    groupMemoryBytes(kernel({ ...files, "/sys/fs/cgroup/memory.max": `${9 * GiB}\n` })),
    undefined,
  );
  assert.equal(
    groupMemoryBytes(kernel({ ...files, "/sys/fs/cgroup/memory.max": "max\n" })),
    undefined,
  );
});

Deno.test("groupMemoryUsed() leaves out the pages of files, which can be dropped, but not shared memory", () => {
  const unified = {
    "/proc/self/cgroup": "0::/a\n",
    "/sys/fs/cgroup/memory.max": `${2 * GiB}\n`,
    "/sys/fs/cgroup/memory.current": "1000\n",
    "/sys/fs/cgroup/memory.stat":
      "anon 100\nfile 600\nkernel 300\nfile_mapped 200\nshmem 50\nslab_reclaimable 20\n",
    "/sys/fs/cgroup/a/memory.max": "max\n",
    "/sys/fs/cgroup/a/memory.current": "10\n",
  };
  assert.equal(groupMemoryUsed(kernel(unified)), 430);
  const first = {
    "/proc/self/cgroup": "9:memory:/a\n",
    "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": `${GiB}\n`,
    "/sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1000\n",
    // Without the totals it is the group's own part, not that of the groups in it.
    "/sys/fs/cgroup/memory/a/memory.stat":
      "cache 1\nshmem 1\ntotal_cache 700\ntotal_rss 250\ntotal_shmem 200\n",
  };
  assert.equal(groupMemoryUsed(kernel(first)), 500);
  assert.equal(groupMemoryUsed(kernel({})), undefined);
});

Deno.test("groupCounts() reads what the groups of both versions did to their processes", () => {
  assert.deepEqual(groupCounts(kernel({})), { oomKills: 0, refusedTasks: 0 });
  const unified = {
    "/proc/self/cgroup": "0::/a/b\n",
    "/sys/fs/cgroup/a/b/memory.events":
      "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n",
    "/sys/fs/cgroup/a/memory.events": "max 90\noom 90\noom_kill 90\n",
    "/sys/fs/cgroup/a/b/pids.events": "max 5\n",
  };
  assert.deepEqual(groupCounts(kernel(unified)), { oomKills: 2, refusedTasks: 5 });
  const first = {
    "/proc/self/cgroup": "8:pids:/x\n4:memory:/x\n0::/\n",
    "/sys/fs/cgroup/memory/x/memory.oom_control": "oom_kill_disable 0\nunder_oom 1\noom_kill 4\n",
    "/sys/fs/cgroup/pids/x/pids.events": "max 6\n",
  };
  assert.deepEqual(groupCounts(kernel(first)), { oomKills: 4, refusedTasks: 6 });
});

Deno.test("groupTaskLimit() is the tightest on the way up", () => {
  const files = {
    "/proc/self/cgroup": "0::/a/b\n",
    "/sys/fs/cgroup/a/b/pids.max": "max\n",
    "/sys/fs/cgroup/a/pids.max": "300\n",
    "/sys/fs/cgroup/pids.max": "4000\n",
  };
  assert.equal(groupTaskLimit(kernel(files)), 300);
  assert.equal(groupTaskLimit(kernel({})), undefined);
});
