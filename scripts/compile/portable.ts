/**
 * The package that needs no base binary: a shell script that carries Deno and the program, unpacks them
 * once and becomes them. What it does at each start is in `portable_header.sh`.
 *
 * Layout: the script's text, Deno (gzip), the program (tar, gzip).
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import { PORTABLE_V8_FLAGS_VARIABLE, V8_FLAGS } from "../../src/standalone.ts";
import { PERMISSION_FLAGS } from "./permissions.ts";
import { CompileError, type Stage } from "./stage.ts";

export interface PortableOptions {
  readonly stage: Stage;
  readonly output: string;
  /** The Deno that the file shall carry. */
  readonly deno: string;
  /** Keeps Deno's compressed bytes between builds; they are the slow part and seldom change. */
  readonly cacheFolder: string;
  /** gzip's level for Deno, 1 (fast) to 9. */
  readonly level?: number;
}

const DEFAULT_LEVEL = 6;

/**
 * Writes the portable file, executable, under its final name only when it is whole.
 *
 * @throws {CompileError} when tar or gzip are missing or fail
 */
export async function writePortable(options: PortableOptions): Promise<void> {
  const { stage, output } = options;
  const deno = await packedDeno(options);
  const program = await packedProgram(stage);
  const denoBytes = Deno.statSync(options.deno).size;
  const digest = createHash("sha256").update(deno).update(program).digest("hex");
  const text = header({
    VERSION: stage.version,
    COMMIT: stage.commit,
    DIGEST: digest,
    DENO_PACKED_BYTES: String(deno.length),
    DENO_BYTES: String(denoBytes),
    FILES_DIGEST: createHash("sha256").update(listing(stage.folder)).digest("hex"),
    PERMISSIONS: PERMISSION_FLAGS.join(" "),
    ENGINE_FLAGS: V8_FLAGS,
    ENGINE_FLAGS_VARIABLE: PORTABLE_V8_FLAGS_VARIABLE,
  });
  Deno.mkdirSync(dirname(output), { recursive: true });
  const partial = `${output}.partial`;
  using file = Deno.openSync(partial, { create: true, truncate: true, write: true, mode: 0o755 });
  for (const bytes of [text, deno, program]) writeAll(file, bytes);
  Deno.chmodSync(partial, 0o755);
  Deno.renameSync(partial, output);
}

/** The script with its values filled in, its own length among them. */
export function header(values: Readonly<Record<string, string>>): Uint8Array {
  const template = Deno.readTextFileSync(new URL("./portable_header.sh", import.meta.url));
  let length = 0;
  for (;;) {
    const all: Record<string, string> = { ...values, TEXT_BYTES: String(length) };
    const text = template.replaceAll(/@([A-Z_]+)@/g, (_, name: string) => {
      const value = all[name];
      if (value === undefined) throw new CompileError(`portable_header.sh asks for @${name}@`);
      return value;
    });
    const bytes = new TextEncoder().encode(text);
    if (bytes.length === length) return bytes;
    length = bytes.length;
  }
}

/** Names and lengths of all that is no folder, a line each, as the header's `find` and `sort` give them. */
function listing(root: string): string {
  const lines: string[] = [];
  const walk = (prefix: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(`${root}/${prefix}`)) {
      if (isDirectory) walk(`${prefix}${name}/`);
      else lines.push(`${prefix}${name} ${Deno.lstatSync(`${root}/${prefix}${name}`).size}\n`);
    }
  };
  walk("");
  return lines.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))).join("");
}

async function packedDeno(
  { deno, cacheFolder, level = DEFAULT_LEVEL }: PortableOptions,
): Promise<Uint8Array> {
  const digest = createHash("sha256").update(Deno.readFileSync(deno)).digest("hex");
  const cached = `${cacheFolder}/deno-${digest.slice(0, 16)}-${level}.gz`;
  try {
    return Deno.readFileSync(cached);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const packed = await output("gzip", ["--no-name", `-${level}`, "--stdout", deno]);
  Deno.mkdirSync(cacheFolder, { recursive: true });
  const partial = Deno.makeTempFileSync({ dir: cacheFolder });
  Deno.writeFileSync(partial, packed);
  Deno.renameSync(partial, cached);
  return packed;
}

/** The same bytes for the same program, whoever builds it and when. */
function packedProgram(stage: Stage): Promise<Uint8Array> {
  return output("tar", [
    "--create",
    "--gzip",
    ...["--directory", stage.folder],
    ...["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"],
    ...["--mode=u=rwX,go=rX", "--transform=s,^\\.,program,SH", "."],
  ], { GZIP: "-n9" });
}

async function output(
  command: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<Uint8Array> {
  try {
    const result = await new Deno.Command(command, { args, env }).output();
    if (result.success) return result.stdout;
    throw new CompileError(`${command}: ${new TextDecoder().decode(result.stderr).trim()}`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new CompileError(`${command} is needed to build the portable file and was not found`);
  }
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
}
