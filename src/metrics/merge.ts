/**
 * Joins the expositions of several processes into one, in the Prometheus text format: each family once,
 * with everybody's samples under it. Labels stay as they are; the sources tell themselves apart.
 */

/** One family while it is put together. */
interface MergedFamily {
  help: string | undefined;
  type: string | undefined;
  readonly samples: string[];
}

const HEADER = /^# (HELP|TYPE) (\S+)/;

/**
 * Merges expositions in the order given. Families keep the order in which they were first seen; of
 * several HELP and TYPE lines the first counts. A sample belongs to the family of the header above it
 * when its name is that family's, or extends it with `_…` as those of a histogram do; otherwise it is a
 * family of its own without a header. Blank lines and other comments are dropped.
 */
export function mergeExpositions(sources: Iterable<string>): string {
  const families = new Map<string, MergedFamily>();
  const familyOf = (name: string) => {
    let family = families.get(name);
    if (family === undefined) {
      family = { help: undefined, type: undefined, samples: [] };
      families.set(name, family);
    }
    return family;
  };
  for (const source of sources) {
    let current = "";
    for (const raw of source.split("\n")) {
      const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
      if (line.trim() === "") continue;
      if (line.startsWith("#")) {
        const header = HEADER.exec(line);
        if (header === null) continue;
        current = header[2]!;
        const family = familyOf(current);
        if (header[1] === "HELP") family.help ??= line;
        else family.type ??= line;
        continue;
      }
      const name = sampleName(line);
      const belongs = current !== "" && (name === current || name.startsWith(`${current}_`));
      familyOf(belongs ? current : name).samples.push(line);
    }
  }
  const lines: string[] = [];
  for (const { help, type, samples } of families.values()) {
    // A header without a sample says nothing, and some readers trip over it.
    if (samples.length === 0) continue;
    if (help !== undefined) lines.push(help);
    if (type !== undefined) lines.push(type);
    for (const sample of samples) lines.push(sample);
  }
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

/** What stands before the labels or the value. */
function sampleName(line: string): string {
  const end = line.search(/[{\s]/);
  return end < 0 ? line : line.slice(0, end);
}
