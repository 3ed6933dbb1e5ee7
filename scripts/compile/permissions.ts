/**
 * What the packaged program may do. It is as narrow as the program allows:
 *
 * - reading and writing anywhere, because bundles, caches and shared memory are where the operator says;
 * - any address, because so are the listeners and the workers of a gateway;
 * - the whole environment, because mistyped variables are reported;
 * - any subprocess: Deno refuses to start even listed ones while an `LD_…` variable is set, and
 *   containers with CUDA set one;
 * - native libraries, which a PJRT plugin is;
 * - of the system's facts the user's id alone, and no import of remote code at all.
 *
 * Hooks are sandboxed below this by the worker that runs them.
 */
export const PERMISSION_FLAGS: readonly string[] = [
  "--no-prompt",
  "--allow-read",
  "--allow-write",
  "--allow-net",
  "--allow-env",
  "--allow-run",
  "--allow-ffi",
  "--allow-sys=uid",
  "--deny-import",
];
