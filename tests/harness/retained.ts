/** How much finished work the young generation's collections leave behind, in a process of its own. */

/** Times the work is done, and between collections. */
const TIMES = 20_000;
const TIMES_PER_COLLECTION = 200;

/**
 * Runs `body`, the inside of an async function that returns a function to be called over and over, and
 * says how many MiB of buffers are kept at the end. Only the young generation is collected, as in a server
 * with much memory; what was there at the start has outlived it.
 */
export async function retainedMib(body: string): Promise<number> {
  const script = `
    const work = await (async () => { ${body} })();
    for (let i = 0; i < 10; i++) work();
    for (let i = 0; i < 4; i++) gc({ type: "minor" });
    for (let i = 1; i <= ${TIMES}; i++) {
      work();
      if (i % ${TIMES_PER_COLLECTION} === 0) {
        gc({ type: "minor" });
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
    }
    console.log(Math.round(Deno.memoryUsage().external / 2 ** 20));
  `;
  const folder = Deno.makeTempDirSync();
  try {
    Deno.writeTextFileSync(`${folder}/script.ts`, script);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--quiet", "--no-check", "--no-config"],
        ...["--v8-flags=--expose-gc,--initial-old-space-size=1024", `${folder}/script.ts`],
      ],
      stdin: "null",
    }).output();
    if (code !== 0) throw new Error(new TextDecoder().decode(stderr));
    return Number(new TextDecoder().decode(stdout));
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}
