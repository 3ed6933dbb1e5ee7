/**
 * Who the workers are: listed one by one, behind a name, or in a file. Names are resolved and files read
 * again and again. A source that cannot be read keeps its last members: what is really gone is noticed
 * by the probes.
 */

import { formatHostPort, parseHostPort } from "../config/mod.ts";
import { messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Member } from "./fleet_worker.ts";
import { parseMemberFile } from "./member_file.ts";

/** The world outside, which a test brings its own of. */
export interface MembershipSources {
  /** Every address of a name. */
  resolve(host: string): Promise<readonly string[]>;
  readFile(path: string): Promise<string>;
}

export interface MembershipOptions {
  /** `host:port`, `dns:name:port` or `file:/path`. */
  readonly endpoints: readonly string[];
  /** Aligned with `endpoints`. */
  readonly metricsEndpoints: readonly string[];
  /** Aligned with `endpoints`. */
  readonly workerNames: readonly string[];
  readonly sources: MembershipSources;
  readonly logger: Logger;
  readonly onMembers: (members: readonly Member[]) => void;
}

/** What one entry of the list stands for. */
interface Source {
  readonly endpoint: string;
  readonly metricsEndpoint: string | undefined;
  readonly name: string | undefined;
  members: readonly Member[];
  /** The last look found nobody, which may be a file half written: only the second time counts. */
  wasEmpty: boolean;
  hasFailed: boolean;
}

export class Membership implements Disposable {
  readonly #options: MembershipOptions;
  readonly #sources: readonly Source[];
  #timer: ReturnType<typeof setInterval> | undefined;
  #isLooking = false;
  #isStopped = false;
  #members: readonly Member[] = [];

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.#sources = options.endpoints.map((endpoint, index) => ({
      endpoint,
      metricsEndpoint: options.metricsEndpoints[index],
      name: options.workerNames[index],
      members: [],
      wasEmpty: false,
      hasFailed: false,
    }));
  }

  /** Whether the members can change at all. */
  get isDynamic(): boolean {
    return this.#sources.some(({ endpoint }) => isDynamic(endpoint));
  }

  /** Looks at every source and tells of the members if they are others than before. Never rejects. */
  async look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      await Promise.all(this.#sources.map((source) => this.#update(source)));
      if (!this.#isStopped) this.#tell();
    } finally {
      this.#isLooking = false;
    }
  }

  /** Looks again and again. */
  start(intervalMs: number): void {
    if (this.isDynamic) this.#timer = setInterval(() => void this.look(), intervalMs);
  }

  [Symbol.dispose](): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
  }

  async #update(source: Source): Promise<void> {
    const { logger } = this.#options;
    try {
      const members = await this.#membersOf(source);
      const isDoubtful = members.length === 0 && source.members.length > 0 && !source.wasEmpty;
      source.wasEmpty = members.length === 0;
      if (!isDoubtful) source.members = members;
      if (source.hasFailed) logger.info("workers found again", { source: source.endpoint });
      source.hasFailed = false;
    } catch (error) {
      if (!source.hasFailed) {
        logger.warn("workers cannot be looked up; the last ones stay", {
          source: source.endpoint,
          error: messageOf(error),
        });
      }
      source.hasFailed = true;
    }
  }

  async #membersOf(source: Source): Promise<readonly Member[]> {
    const { endpoint } = source;
    const { resolve, readFile } = this.#options.sources;
    if (endpoint.startsWith("file:")) {
      const path = endpoint.slice("file:".length);
      return parseMemberFile(await readFile(path), path);
    }
    if (!endpoint.startsWith("dns:")) {
      const metricsEndpoint = source.metricsEndpoint?.replace(/^dns:/, "");
      return [{ id: endpoint, name: source.name ?? endpoint, metricsEndpoint }];
    }
    const { host, port } = parseHostPort(endpoint.slice("dns:".length))!;
    const metrics = source.metricsEndpoint &&
      parseHostPort(source.metricsEndpoint.replace(/^dns:/, ""));
    return [...new Set(await resolve(host))].sort().map((address) => {
      const id = formatHostPort({ host: address, port });
      return {
        id,
        name: source.name === undefined ? id : `${source.name}@${id}`,
        metricsEndpoint: metrics && formatHostPort({ host: address, port: metrics.port }),
      };
    });
  }

  #tell(): void {
    const byId = new Map<string, Member>();
    for (const { members } of this.#sources) {
      for (const member of members) if (!byId.has(member.id)) byId.set(member.id, member);
    }
    const { members, shared } = distinctlyNamed([...byId.values()]);
    if (JSON.stringify(members) === JSON.stringify(this.#members)) return;
    const before = new Set(this.#members.map(({ id }) => id));
    const joined = members.filter(({ id }) => !before.has(id)).map(({ name }) => name);
    const left = [...before].filter((id) => !byId.has(id));
    if (shared.length > 0) {
      this.#options.logger.warn("several workers have one name; theirs are name@address", {
        names: shared,
      });
    }
    this.#options.logger.info("members", { count: members.length, joined, left });
    this.#members = members;
    this.#options.onMembers(members);
  }
}

/** Names are labels of metrics, which must not be the same for two workers. */
function distinctlyNamed(
  members: readonly Member[],
): { readonly members: readonly Member[]; readonly shared: readonly string[] } {
  const counts = Map.groupBy(members, ({ name }) => name);
  const isShared = (name: string) => counts.get(name)!.length > 1;
  return {
    members: members.map((member) =>
      isShared(member.name) ? { ...member, name: `${member.name}@${member.id}` } : member
    ),
    shared: [...counts.keys()].filter(isShared),
  };
}

function isDynamic(endpoint: string): boolean {
  return endpoint.startsWith("dns:") || endpoint.startsWith("file:");
}
