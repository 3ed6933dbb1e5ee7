/** Longer than anything takes on a machine that is slow and busy: only a test that fails waits so long. */
const PATIENCE_MS = 300_000;

/**
 * Resolves when a condition holds. There is no hurry, only an end to patience.
 * @throws {Error} with what was waited for
 */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  everyMs = 20,
): Promise<void> {
  const endMs = performance.now() + PATIENCE_MS;
  while (!await condition()) {
    if (performance.now() > endMs) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}
