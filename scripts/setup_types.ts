/** What the parts of setup share. */

/** What keeps setup from finishing; one line that says what to do. */
export class SetupError extends Error {}

/** Where setup says what it does. */
export interface Reporter {
  /** A line that stays. */
  line(text: string): void;
  /** A line that the next one may replace. */
  progress(text: string): void;
}

/** A plugin, pinned down to its bytes. */
export interface PinnedPlugin {
  /** The requirement pip is given. */
  readonly requirement: string;
  /** The platform tag of the wheel. */
  readonly platform: string;
  /** SHA-256 of the wheel. */
  readonly sha256: string;
  /** About how much is downloaded, for the progress line. */
  readonly megabytes: number;
  /** What is kept of it, by path in the wheel. */
  readonly files: readonly {
    readonly member: string;
    /** Its name in the plugin folder. */
    readonly name: string;
    readonly sha256: string;
  }[];
}

/** What `installPlugin` works with. */
export interface InstallOptions {
  /** The plugin folder; created when absent. */
  readonly folder: string;
  /** The Python to run pip with. */
  readonly python: string;
  readonly plugin: PinnedPlugin;
  /** The machine; `Deno.build`. */
  readonly host: { readonly os: string; readonly arch: string; readonly env?: string };
  readonly report: Reporter;
}
