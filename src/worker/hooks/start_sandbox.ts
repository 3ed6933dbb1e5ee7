/** Starts the Web Worker whose permissions are all that hook code has. */

import { BundleError, messageOf } from "../../errors.ts";
import { assetFolder, assetUrl } from "../../standalone.ts";
import type { HookGrants } from "./messages.ts";

/** What the sandbox's own code lies in; read once, at its start. */
export const CODE_FOLDER: string = assetFolder("src/worker/hooks/sandbox.ts");

/** @throws {BundleError} for grants that name no host, path or variable */
export function startSandbox(model: string, directory: string, grants: HookGrants): Worker {
  try {
    return new Worker(assetUrl("src/worker/hooks/sandbox.ts"), {
      type: "module",
      name: `hook:${model}`,
      deno: {
        permissions: {
          // The thread's own code must be readable for it to start; it gives this up at once.
          read: [directory, CODE_FOLDER, ...grants.allowRead],
          write: false,
          net: [...grants.allowNet],
          env: [...grants.allowEnv],
          run: false,
          ffi: false,
          sys: false,
          import: false,
        },
      },
    });
  } catch (error) {
    throw new BundleError(
      model,
      `what the node file grants its hooks cannot be granted: ${messageOf(error)}`,
    );
  }
}
