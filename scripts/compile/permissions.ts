/**
 * What the packaged program may do: everything but run code from elsewhere. Less does not work. Since 1.43
 * Deno lets nobody read or write below `/proc`, `/sys` and `/dev` who was not given everything (CVE-2024-34346),
 * and a single `--deny-…` beside `--allow-all`, or a permission revoked later, counts as not having been. The
 * program lives there: clients' shared memory is in `/dev/shm`, the processors it may use, a container's
 * quota, the threads it pins and every process metric are in `/proc` and `/sys`. Nor would a shorter list
 * hold anything back, for native libraries, which PJRT plugins are, may do what the user may.
 *
 * Hooks, the one code that others bring, are sandboxed below this by the worker that runs them.
 */
export const PERMISSION_FLAGS: readonly string[] = ["--allow-all", "--no-prompt", "--no-remote"];
