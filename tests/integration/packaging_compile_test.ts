/**
 * What can be checked of the compiled executable without Deno's base binary: that everything is embedded, and
 * what is said where there is no such binary. Embedding takes any file as the base.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { embed, INCLUDED, tryOut } from "../../scripts/compile/executable.ts";
import { PERMISSION_FLAGS } from "../../scripts/compile/permissions.ts";
import { CompileError, stageProgram } from "../../scripts/compile/stage.ts";
import { ASSETS } from "../../src/standalone.ts";

const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** Paths in the tree that `deno compile` prints; a folder that is embedded whole ends in `/*`. */
function embeddedPaths(report: string): string[] {
  const parents: string[] = [];
  const paths: string[] = [];
  for (const line of report.split("\n")) {
    const found = line.match(/^([ │]*)[├└][─┬]+ (.+?)(?: \([^()]*\))?$/);
    if (found === null) continue;
    const depth = found[1]!.length / 2;
    parents.length = depth;
    parents.push(found[2]!);
    paths.push(parents.join("/"));
  }
  return paths;
}

function isEmbedded(path: string, paths: readonly string[]): boolean {
  return paths.some((embedded) =>
    embedded === path || (embedded.endsWith("/*") && path.startsWith(embedded.slice(0, -1)))
  );
}

Deno.test("the compiled executable", async (t) => {
  const folder = Deno.makeTempDirSync({ prefix: "compile-test-" });
  const before = Deno.env.get("DENORT_BIN");
  try {
    const stage = await stageProgram({ root, target: `${folder}/stage`, commit: "0123456789ab" });
    const output = `${folder}/reactantserver`;

    await t.step("is staged without tests, foreign packages or the build machine's paths", () => {
      assert.deepEqual(
        stage.modules.filter((path) => /_test\.ts$|^(tests|scripts)\//.test(path)),
        [],
      );
      const names = stage.packages.map((name) => name.replace(/(?!^)@.*/, ""));
      for (const name of ["@bufbuild/protobuf", "@grpc/grpc-js", "prom-client", "yaml"]) {
        assert.ok(names.includes(name), `${name} in ${names}`);
      }
      assert.deepEqual(names.filter((name) => /^@types\/|^@huggingface\//.test(name)), []);
      for (const terms of ["yaml@2.9.1/node_modules/yaml", "long@5.3.2/node_modules/long"]) {
        assert.ok(Deno.statSync(`${stage.folder}/node_modules/.deno/${terms}/LICENSE`).isFile);
      }
      const build = Deno.readTextFileSync(`${stage.folder}/build.json`);
      assert.deepEqual(JSON.parse(build), { commit: "0123456789ab" });
      assert.ok(!Deno.readTextFileSync(`${stage.folder}/deno.json`).includes(root));
    });

    await t.step("embeds every command, every asset and the packages", async () => {
      Deno.env.set("DENORT_BIN", Deno.execPath());
      const report = await embed(stage, output);
      const paths = embeddedPaths(report);
      const commands = stage.modules.filter((path) => path.startsWith("src/cli/commands/"));
      assert.ok(commands.length >= 5, `${commands}`);
      const roles = ["src/worker/mod.ts", "src/gateway/mod.ts", "src/supervisor/mod.ts"];
      for (const path of ["main.ts", ...INCLUDED, ...ASSETS, ...commands, ...roles]) {
        assert.ok(isEmbedded(path, paths), `${path} is missing in:\n${report}`);
      }
      assert.ok(paths.some((path) => path.startsWith("node_modules/")), report);
    });

    await t.step("may do what the program does, and run no code from elsewhere", async () => {
      const script = `${folder}/script.ts`;
      Deno.writeTextFileSync(
        script,
        `Deno.readTextFileSync("/proc/self/status");
         [...Deno.readDirSync("/dev/shm")];
         Deno.uid() + Deno.gid();
         new Deno.Command("true").outputSync();
         await import("https://127.0.0.1:9/code.ts").catch((error) => console.log(error.message));`,
      );
      const args = ["run", "--no-config", ...PERMISSION_FLAGS, script];
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
      const decoder = new TextDecoder();
      assert.equal(code, 0, decoder.decode(stderr));
      assert.match(decoder.decode(stdout), /"https:\/\/127\.0\.0\.1:9.*--no-remote/);
    });

    await t.step("is not passed off as done when its base is no denort", async () => {
      await assert.rejects(tryOut(output, stage, `${folder}/unpacked`), (error) => {
        assert.ok(error instanceof CompileError);
        assert.match(
          error.message,
          /does not answer as this program .*must be the denort of Deno/s,
        );
        return true;
      });
    });

    await t.step("names DENORT_BIN and --portable where there is no base binary", async () => {
      Deno.env.set("DENORT_BIN", `${folder}/nowhere`);
      await assert.rejects(embed(stage, output), (error) => {
        assert.ok(error instanceof CompileError);
        assert.match(error.message, /denort.*set DENORT_BIN.*--portable/s);
        assert.doesNotMatch(error.message, /Stack backtrace/);
        return true;
      });
    });
  } finally {
    if (before === undefined) Deno.env.delete("DENORT_BIN");
    else Deno.env.set("DENORT_BIN", before);
    Deno.removeSync(folder, { recursive: true });
  }
});
