/**
 * The hook file as a module whose evaluation is started by us, as ordinary code: an `import` is evaluated by
 * Deno's event loop, where no time limit reaches it, and a loop at the top level of such a file could never be
 * stopped. `stripTypeScriptTypes` and `vm.SourceTextModule` are part of Deno's Node layer, so they are there
 * in a compiled program too.
 */

import * as nodeModule from "node:module";
import * as vm from "node:vm";

/** What Deno 2.8 has and its types do not know. */
interface SourceTextModule {
  link(linker: (specifier: string) => never): Promise<void>;
  evaluate(): Promise<void>;
}
const { SourceTextModule } = vm as unknown as {
  SourceTextModule: new (
    source: string,
    options: { identifier: string; importModuleDynamically: (specifier: string) => never },
  ) => SourceTextModule;
};
const { stripTypeScriptTypes } = nodeModule as unknown as {
  stripTypeScriptTypes(source: string, options: { mode: "strip" | "transform" }): string;
};

/**
 * Compiles a TypeScript module that may import nothing.
 * @returns starts its evaluation; what it does at once is done when that returns
 * @throws {SyntaxError} for a file that is no TypeScript; {TypeError} for one that imports
 */
export async function compileHookFile(source: string): Promise<() => Promise<void>> {
  const compiled = new SourceTextModule(withoutTypes(source), {
    identifier: "model.ts",
    importModuleDynamically: refuseImport,
  });
  await compiled.link(refuseImport);
  return () => compiled.evaluate();
}

/** @throws {TypeError} that names what was to be imported */
export function refuseImport(specifier: string): never {
  throw new TypeError(
    `hooks cannot import anything, got ${JSON.stringify(specifier.slice(0, 100))}`,
  );
}

/** Brackets that may be open at once, wherever they stand: the thread's stack holds twice as many. */
const MAX_OPEN_BRACKETS = 200_000;

/** @throws {SyntaxError} for what could be nested so deeply that taking it apart would end the process */
function refuseDeepNesting(source: string): void {
  let open = 0;
  for (let at = 0; at < source.length; at++) {
    const character = source[at]!;
    if (character === "(" || character === "[" || character === "{") {
      if (++open > MAX_OPEN_BRACKETS) throw new SyntaxError("the hook file is nested too deeply");
    } else if (character === ")" || character === "]" || character === "}") {
      // Those in strings and comments have no partners.
      open = Math.max(0, open - 1);
    }
  }
}

function withoutTypes(source: string): string {
  refuseDeepNesting(source);
  try {
    // Keeps every line and column where it is.
    return stripTypeScriptTypes(source, { mode: "strip" });
  } catch {
    // Enums and the like become code of their own; what is wrong altogether fails here with its reason.
    return stripTypeScriptTypes(source, { mode: "transform" });
  }
}
