import assert from "node:assert/strict";
import { processorLimits, usableProcessors } from "./processors.ts";
import { coreSlice, threadShare } from "./thread_share.ts";

function limits(files: Record<string, string>) {
  return processorLimits((path) => files[path], 4);
}

Deno.test("processorLimits() reads affinity, and counts processors where there is none to read", () => {
  assert.deepEqual(limits({}), { processors: [0, 1, 2, 3], quota: undefined });
  const status = "Name:\tdeno\nCpus_allowed_list:\t2-3,6\n";
  assert.deepEqual(limits({ "/proc/self/status": status }).processors, [2, 3, 6]);
});

Deno.test("processorLimits() takes the tightest quota on the way up", () => {
  const unified = { "/proc/self/cgroup": "0::/a/b\n" };
  assert.equal(limits(unified).quota, undefined);
  assert.equal(
    limits({ ...unified, "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n" }).quota,
    undefined,
  );
  assert.equal(
    limits({
      ...unified,
      "/sys/fs/cgroup/a/b/cpu.max": "300000 100000\n",
      "/sys/fs/cgroup/a/cpu.max": "150000 100000\n",
    }).quota,
    1.5,
  );
  assert.equal(limits({ ...unified, "/sys/fs/cgroup/cpu.max": "200000 100000\n" }).quota, 2);
  assert.equal(
    limits({
      "/proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n1:memory:/docker/x\n",
      "/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "-1\n",
      "/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }).quota,
    2.5,
  );
});

Deno.test("usableProcessors() is whole, at least one, and no more than there are", () => {
  const processors = [0, 1, 2, 3];
  assert.equal(usableProcessors({ processors, quota: undefined }), 4);
  assert.equal(usableProcessors({ processors, quota: 1.5 }), 2);
  assert.equal(usableProcessors({ processors, quota: 0.2 }), 1);
  assert.equal(usableProcessors({ processors, quota: 64 }), 4);
});

Deno.test("threadShare() is the specified table", () => {
  const cases = [[32, 2, 16], [64, 2, 16], [16, 2, 8], [8, 1, 8], [1, 4, 1], [7, 2, 3]] as const;
  for (const [processors, workers, share] of cases) {
    assert.equal(threadShare(processors, workers), share, `${processors}/${workers}`);
  }
});

Deno.test("coreSlice() gives workers processors of their own while there are enough", () => {
  for (const [count, workers] of [[2, 2], [8, 3], [64, 2], [5, 4], [16, 1]] as const) {
    const processors = Array.from({ length: count }, (_, index) => index * 2);
    const threads = threadShare(count, workers);
    const all = Array.from(
      { length: workers },
      (_, index) => coreSlice(processors, { index, workers, threads }),
    );
    for (const slice of all) assert.equal(slice.length, threads);
    assert.equal(new Set(all.flat()).size, all.flat().length, `${count}/${workers}`);
  }
});

Deno.test("coreSlice() shares evenly where there are too few, and wraps for more threads", () => {
  const slices = [0, 1, 2, 3].map((index) => coreSlice([4, 5], { index, workers: 4, threads: 1 }));
  assert.deepEqual(slices, [[4], [4], [5], [5]]);
  assert.deepEqual(coreSlice([0, 1, 2, 3], { index: 1, workers: 2, threads: 3 }), [0, 2, 3]);
  assert.deepEqual(coreSlice([0, 1], { index: 0, workers: 1, threads: 12 }), [0, 1]);
});
