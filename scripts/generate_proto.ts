/**
 * Generates TypeScript from `proto/` with buf and protoc-gen-es, both pinned and run through npm.
 *
 *     deno task proto            rewrites the generated folders
 *     deno task proto --check    fails when they are not what would be generated
 *
 * Generated files embed their own descriptors, which is what server reflection sends: there is no
 * separate descriptor set to keep in step.
 */
import { parseArgs } from "node:util";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import process from "node:process";

const BUF = "@bufbuild/buf@1.75.0";
/** The same version as the `@bufbuild/protobuf` run-time in deno.json, which its output needs. */
const PLUGIN = "@bufbuild/protoc-gen-es@2.17.0";

/** Which folders of `proto/` are generated into which folder of `src/`. */
const TARGETS: readonly { readonly from: readonly string[]; readonly to: string }[] = [
  { from: ["inference", "reactant_control"], to: "src/protocol/gen" },
  { from: ["xla"], to: "src/runtime/pjrt/gen" },
  { from: ["grpc"], to: "src/transport/gen" },
];

const root = path.dirname(import.meta.dirname!);

/** Runs buf on some folders of `proto/`; paths below `out` are those below `proto/`. */
function generate(folders: readonly string[], out: string): void {
  const plugin = { local: "protoc-gen-es", out, opt: ["target=ts", "import_extension=ts"] };
  const template = JSON.stringify({ version: "v2", plugins: [plugin] });
  const paths = folders.flatMap((folder) => ["--path", path.join("proto", folder)]);
  const npm = ["exec", "--yes", `--package=${BUF}`, `--package=${PLUGIN}`, "--"];
  const buf = ["buf", "generate", "proto", "--template", template, ...paths];
  const run = spawnSync("npm", [...npm, ...buf], { cwd: root, encoding: "utf8" });
  if (run.error) throw run.error;
  if (run.status !== 0) {
    throw new Error(`buf generate failed for ${folders.join(", ")}:\n${run.stdout}${run.stderr}`);
  }
}

/** Every file below a folder by its relative path; none when the folder does not exist. */
function readTree(folder: string): Map<string, string> {
  const files = new Map<string, string>();
  if (!fs.existsSync(folder)) return files;
  for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    files.set(path.relative(folder, file), fs.readFileSync(file, "utf8"));
  }
  return files;
}

/** Names of files that are missing, superfluous or different. */
function differences(wanted: Map<string, string>, found: Map<string, string>): string[] {
  const names = new Set([...wanted.keys(), ...found.keys()]);
  return [...names].filter((name) => wanted.get(name) !== found.get(name)).sort();
}

const { values } = parseArgs({ options: { check: { type: "boolean", default: false } } });
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "reactant-proto-"));
const stale: string[] = [];
try {
  for (const { from, to } of TARGETS) {
    const folders = from.filter((folder) => fs.existsSync(path.join(root, "proto", folder)));
    if (folders.length === 0) continue;
    const out = path.join(scratch, to);
    generate(folders, out);
    const changed = differences(readTree(out), readTree(path.join(root, to)));
    stale.push(...changed.map((name) => path.join(to, name)));
    if (!values.check && changed.length > 0) {
      fs.rmSync(path.join(root, to), { recursive: true, force: true });
      fs.cpSync(out, path.join(root, to), { recursive: true });
    }
  }
} finally {
  fs.rmSync(scratch, { recursive: true });
}
for (const file of stale) console.log(`${values.check ? "stale" : "wrote"} ${file}`);
if (stale.length === 0) console.log("generated files are up to date");
if (values.check && stale.length > 0) {
  console.error("run `deno task proto` and commit the result");
  process.exitCode = 1;
}
