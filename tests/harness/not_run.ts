/**
 * How tests say what they cannot check on a machine, and for want of what: as names in the list of tests,
 * since `--quiet`, with which they are run, hides whatever a test prints.
 */

/** A step of that name, ignored; for a test that goes on, or has nothing else to do. */
export async function notRun(t: Deno.TestContext, what: string): Promise<void> {
  await t.step({ name: `NOT RUN: ${what}`, ignore: true, fn: () => {} });
}

/** A test's name and whether it is ignored, which it is where `missing` says that something is. */
export function unless(
  missing: string | undefined,
  name: string,
): { readonly name: string; readonly ignore: boolean } {
  return missing === undefined
    ? { name, ignore: false }
    : { name: `${name} (NOT RUN: ${missing})`, ignore: true };
}
