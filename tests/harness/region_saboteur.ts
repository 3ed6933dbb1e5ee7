/**
 * A client that treats its shared-memory objects as badly as it can: makes them shorter and long again,
 * removes them and makes new ones, at random moments, until it is told to stop.
 *
 *     deno run -A region_saboteur.ts BYTES PATH…
 *
 * Prints how often it did what so far, as a line of JSON, now and then and when its standard input ends.
 */

if (import.meta.main) {
  const [bytes, ...paths] = [Number(Deno.args[0]), ...Deno.args.slice(1)];
  const counts = { cuts: 0, replacements: 0 };
  const state = { isStopped: false };
  void Deno.stdin.readable.pipeTo(new WritableStream()).then(() => state.isStopped = true);
  const pause = (longestMs: number) =>
    new Promise((resolve) => setTimeout(resolve, Math.random() * longestMs));
  while (!state.isStopped) {
    const path = paths[Math.floor(Math.random() * paths.length)]!;
    if (Math.random() < 0.1) {
      Deno.removeSync(path);
      using made = Deno.openSync(path, { write: true, create: true });
      made.truncateSync(bytes);
      counts.replacements++;
    } else {
      Deno.truncateSync(path, Math.random() < 0.5 ? 0 : 4 * Math.floor(Math.random() * bytes / 4));
      await pause(3);
      Deno.truncateSync(path, bytes);
      counts.cuts++;
    }
    if ((counts.cuts + counts.replacements) % 10 === 0) console.log(JSON.stringify(counts));
    await pause(6);
  }
  console.log(JSON.stringify(counts));
}
