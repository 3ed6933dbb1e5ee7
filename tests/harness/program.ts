/** Starts programs that are neither the sources nor a fixed role: packages, entry points. */

/** A running program; disposing it ends it. */
export interface TestProgram extends AsyncDisposable {
  readonly pid: number;
  /** Everything it wrote so far. */
  log(): string;
  /** Resolves when its log has a match. */
  waitFor(pattern: RegExp): Promise<void>;
  kill(signal: Deno.Signal): void;
  readonly exited: Promise<Deno.CommandStatus>;
}

/**
 * The packaged program that tests of servers and nodes are to run instead of the sources, for whoever wants
 * to see that it behaves the same.
 */
export function packageUnderTest(): string | undefined {
  return Deno.env.get("TEST_PROGRAM");
}

/** Starts a file as a program, with these variables besides the environment's own. */
export function startProgram(
  file: string,
  args: string[],
  env: Record<string, string>,
): TestProgram {
  const child = new Deno.Command(file, {
    args,
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  })
    .spawn();
  let log = "";
  let isOver = false;
  let look = () => {};
  const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      log += text;
      look();
    }
  };
  const reading = Promise.all([read(child.stdout), read(child.stderr)]).then(() => {
    isOver = true;
    look();
  });
  const exited = child.status.then(async (status) => {
    await reading;
    return status;
  });
  return {
    pid: child.pid,
    log: () => log,
    exited,
    kill: (signal) => child.kill(signal),
    waitFor: (pattern) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no ${pattern} in:\n${log}`)), 240_000);
        look = () => {
          if (!isOver && !pattern.test(log)) return;
          clearTimeout(timer);
          if (pattern.test(log)) resolve();
          else reject(new Error(`it ended without ${pattern}:\n${log}`));
        };
        look();
      }),
    async [Symbol.asyncDispose]() {
      if (!isOver) child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
      await exited;
      clearTimeout(timer);
    },
  };
}
