import { stat } from "node:fs/promises";
import { join } from "node:path";
import {
  type Bundle,
  findNestedMetas,
  loadBundle,
  MANIFEST_FILE,
  type MetaBundle,
  scanRepository,
} from "../../bundle/mod.ts";
import { ConfigError, messageOf } from "../../errors.ts";
import { Logger } from "../../log.ts";
import { openBackend } from "../../runtime/mod.ts";
import { type Command, type CommandOutput, EXIT } from "../command.ts";
import { configFlags, configFrom } from "../config_flags.ts";
import type { ParsedFlags } from "../flags.ts";
import { printBundle } from "./bundle_inspect.ts";
import { validateMeta } from "./bundle_replay.ts";
import { validateBundle } from "./bundle_validate.ts";

/** Describes or checks bundles without serving them. */
export const command: Command = {
  name: "bundle",
  usage: "bundle inspect|validate PATH... [flags]",
  summary: "Describes a bundle, or compiles it and compares its outputs with its golden tensors.",
  details: [
    "PATH is a bundle, or a folder of bundles.",
    "inspect reads the files and needs no device: tensors, programs, weights, warnings.",
    "validate also compiles every program with the configured PJRT plugin, checks what it really takes " +
    "and gives, and runs it on the inputs in golden.safetensors; a meta model is sent the request recorded " +
    "there, with the models it calls beside it. It exits with 1 when anything fails.",
  ].join("\n\n"),
  flags: configFlags("runtime", "meta", "hooks", "log"),
  async run(flags, output) {
    const [action, ...paths] = flags.positionals;
    if (paths.length === 0 || (action !== "inspect" && action !== "validate")) {
      throw new ConfigError("bundle takes an action and a path: bundle inspect|validate PATH");
    }
    const { directories, failures } = await findBundles(paths, output);
    const failed = failures +
      (action === "inspect"
        ? await inspectAll(directories, output)
        : await validateAll(directories, flags, output));
    return failed === 0 ? EXIT.ok : EXIT.failure;
  },
};

/** Bundle directories behind the given paths, and how many entries there are no bundles. */
async function findBundles(
  paths: readonly string[],
  output: CommandOutput,
): Promise<{ directories: string[]; failures: number }> {
  const directories: string[] = [];
  let failures = 0;
  for (const path of paths) {
    const isBundle = await stat(join(path, MANIFEST_FILE)).then(() => true, () => false);
    if (isBundle) {
      directories.push(await Deno.realPath(path));
      continue;
    }
    const scan = await scanRepository([path]);
    for (const { root, reason } of scan.rootFailures) {
      throw new ConfigError(`Cannot read ${JSON.stringify(root)}: ${reason}`);
    }
    for (const { error } of scan.failures) output.complain(error.message);
    failures += scan.failures.length;
    if (scan.found.length + scan.failures.length === 0) {
      throw new ConfigError(
        `${JSON.stringify(path)} is no bundle and holds none: there is no ${MANIFEST_FILE}`,
      );
    }
    directories.push(...scan.found.map(({ directory }) => directory));
  }
  return { directories, failures };
}

async function inspectAll(
  directories: readonly string[],
  output: CommandOutput,
): Promise<number> {
  let failed = 0;
  for (const [position, directory] of directories.entries()) {
    if (position > 0) output.print("");
    try {
      using bundle = await loadBundle(directory);
      printBundle(bundle, output.print);
    } catch (error) {
      output.complain(messageOf(error));
      failed++;
    }
  }
  return failed;
}

async function validateAll(
  directories: readonly string[],
  flags: ParsedFlags,
  output: CommandOutput,
): Promise<number> {
  const { config, origins, warnings } = configFrom(flags);
  for (const warning of warnings) output.complain(`warning: ${warning}`);
  const logger = new Logger({ ...config.log, write: output.complain });
  let failed = 0;
  const check = async (what: () => Promise<boolean>) => {
    try {
      if (!await what()) failed++;
    } catch (error) {
      output.print(`FAIL  ${messageOf(error)}`);
      failed++;
    }
  };
  const loaded: Bundle[] = [];
  const metas: MetaBundle[] = [];
  {
    await using backend = await openBackend(config.runtime, logger);
    output.print(`on ${backend.platform} (${backend.deviceKind})`);
    for (const directory of directories) {
      await check(async () => {
        using bundle = await loadBundle(directory);
        loaded.push(bundle);
        if (bundle.kind === "model") return await validateBundle(bundle, backend, output.print);
        metas.push(bundle);
        return true;
      });
    }
  }
  const nested = findNestedMetas(loaded);
  // After the others: a worker for them needs the device to itself.
  for (const bundle of metas) {
    await check(() => {
      const found = nested.find(({ error }) => error.bundle === bundle.name);
      if (found !== undefined) throw found.error;
      return validateMeta(bundle, {
        config,
        origins,
        // Of the worker only what is wrong is of interest here.
        logger: new Logger({ ...config.log, level: "warn", write: output.complain }),
        print: output.print,
      });
    });
  }
  const total = directories.length;
  output.print(`${total - failed} of ${total} bundles are valid`);
  return failed;
}
