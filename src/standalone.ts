/** The only place that knows how this program was built and can be started again. */

/** A program and its arguments. */
export interface SelfCommand {
  readonly command: string;
  readonly args: string[];
}

/** How to start this very program again with `args`, for example as a worker of a supervisor. */
export function selfCommand(args: readonly string[]): SelfCommand {
  if (Deno.build.standalone) return { command: Deno.execPath(), args: [...args] };
  const path = (name: string) =>
    decodeURIComponent(new URL(`../${name}`, import.meta.url).pathname);
  return {
    command: Deno.execPath(),
    args: [
      "run",
      "--allow-all",
      "--no-prompt",
      "--quiet",
      ...["--config", path("deno.json")],
      path("main.ts"),
      ...args,
    ],
  };
}
