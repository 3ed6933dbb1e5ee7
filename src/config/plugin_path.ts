/** Where the PJRT plugin of a platform lies. */

import { ConfigError } from "../errors.ts";
import { pluginFolders } from "../standalone.ts";
import type { BackendName } from "./server_config.ts";

/** The files setup and packagers use, per platform, in one of the plugin folders. */
const PLUGIN_FILES: Readonly<Record<BackendName, string>> = {
  cpu: "xla_cpu_pjrt.so",
  cuda: "xla_cuda_plugin.so",
};

/**
 * The path of a platform's PJRT plugin: the configured one, else the one setup fetched.
 *
 * @param configured `runtime.pjrt_plugin`; empty when not configured
 * @throws {ConfigError} when there is no such file, saying what to do
 */
export function findPlugin(
  backend: BackendName,
  configured: string,
  folders: readonly string[] = pluginFolders(),
): string {
  if (configured !== "") {
    if (isFile(configured)) return configured;
    throw new ConfigError(
      `PJRT plugin ${JSON.stringify(configured)} does not exist; correct --pjrt-plugin ` +
        "(REACTANT_PJRT_PLUGIN, runtime.pjrt_plugin)",
    );
  }
  const candidates = folders.map((folder) => `${folder}/${PLUGIN_FILES[backend]}`);
  const found = candidates.find(isFile);
  if (found !== undefined) return found;
  const remedy = backend === "cpu"
    ? "run `scripts/setup` in a checkout, put it there (PyPI's xla-cpu-pjrt has it), or give a plugin's path " +
      "with --pjrt-plugin"
    : "give the path of xla_cuda_plugin.so with --pjrt-plugin, or use --backend cpu";
  throw new ConfigError(
    `No PJRT plugin for ${backend} (looked for ${candidates.join(", ")}); ${remedy}`,
  );
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    // Whatever keeps it from being seen also keeps it from being loaded.
    return false;
  }
}
