/**
 * Put before `hook.ts` by `build.py --timed`: measures what a run spends on each helper and each call, and
 * adds it as the output `timings`, one BYTES element of JSON with milliseconds by step.
 */

let timings = new Map<string, number>();

function record(step: string, startMs: number): void {
  timings.set(step, (timings.get(step) ?? 0) + performance.now() - startMs);
}

// deno-lint-ignore no-explicit-any
function timed<T extends (...args: any[]) => any>(step: string, run: T): T {
  return ((...args) => {
    const startMs = performance.now();
    try {
      return run(...args);
    } finally {
      record(step, startMs);
    }
  }) as T;
}

const scope = globalThis as unknown as {
  helpers: HookHelpers;
  register_meta: typeof register_meta;
};
const timedAll = <T extends object>(group: T): T =>
  Object.fromEntries(Object.entries(group).map(([name, run]) => [name, timed(name, run)])) as T;
scope.helpers = {
  ...helpers,
  tensor: timedAll(helpers.tensor),
  detection: timedAll(helpers.detection),
};

const register = register_meta;
scope.register_meta = (name, run) =>
  // One run at a time: a hook worker handles one request at a time.
  register(name, async (inputs, call) => {
    timings = new Map();
    const startMs = performance.now();
    // Calls that wait at the same time count once.
    const waiting = new Map<string, { count: number; sinceMs: number }>();
    const asked = async <T>(step: string, answer: Promise<T>) => {
      const wait = waiting.get(step) ?? { count: 0, sinceMs: 0 };
      if (wait.count++ === 0) wait.sinceMs = performance.now();
      waiting.set(step, wait);
      const value = await answer;
      if (--wait.count === 0) record(step, wait.sinceMs);
      return value;
    };
    const timedCall = Object.assign(
      (model: string, tensors: NamedTensor[]) => asked(`call ${model}`, call(model, tensors)),
      { scratch: (sizes: number[]) => asked("call scratch", call.scratch(sizes)) },
    );
    const outputs = await run(inputs, timedCall);
    const measuredMs = [...timings.values()].reduce((sum, spent) => sum + spent, 0);
    record("run", startMs);
    timings.set("rest of the hook", timings.get("run")! - measuredMs);
    const text = JSON.stringify(Object.fromEntries(timings));
    return [...outputs, helpers.tensor.makeTensor("timings", "BYTES", [1], [text])];
  });
