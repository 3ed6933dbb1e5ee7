/** Sets of processors as the kernel writes them: `0-3,8`. */

/** More than any machine has; a longer list is a mistake. */
const MAX_PROCESSOR = 8191;

/** The processors of a list, ascending, or `undefined` when it is not one. */
export function parseCpuList(text: string): number[] | undefined {
  const processors = new Set<number>();
  for (const part of text.trim().split(",")) {
    const match = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part);
    if (match === null) return undefined;
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (last < first || last > MAX_PROCESSOR) return undefined;
    for (let processor = first; processor <= last; processor++) processors.add(processor);
  }
  return [...processors].sort((a, b) => a - b);
}

/** The shortest list of these processors. */
export function formatCpuList(processors: readonly number[]): string {
  const sorted = [...new Set(processors)].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let at = 0; at < sorted.length;) {
    let end = at;
    while (sorted[end + 1] === sorted[end]! + 1) end++;
    parts.push(end === at ? `${sorted[at]}` : `${sorted[at]}-${sorted[end]}`);
    at = end + 1;
  }
  return parts.join(",");
}
