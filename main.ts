import { main } from "./src/cli/mod.ts";

// Left at once: everything is closed by now, but Deno 2.8 may wait for sockets that were closed while they
// were read (denoland/deno#35292), for as long as their peers live.
if (import.meta.main) Deno.exit(await main(Deno.args));
