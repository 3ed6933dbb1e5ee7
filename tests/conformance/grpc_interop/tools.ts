/** Other people's tools: found, built where Go can build them, run. */

import assert from "node:assert/strict";
import { unless } from "../../harness/not_run.ts";

/** What a tool printed. */
export interface Output {
  readonly success: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export async function runTool(
  program: string,
  args: readonly string[],
  options: { timeoutMs?: number; stdin?: Uint8Array } = {},
): Promise<Output> {
  const child = new Deno.Command(program, {
    args: [...args],
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(options.timeoutMs ?? 300_000),
  }).spawn();
  if (options.stdin !== undefined) {
    const writer = child.stdin.getWriter();
    await writer.write(options.stdin);
    await writer.close();
  }
  const { success, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { success, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Whether a program can be run here. */
export function isInstalled(program: string, ...args: string[]): boolean {
  try {
    return new Deno.Command(program, { args: args.length > 0 ? args : ["--version"] })
      .outputSync().success;
  } catch {
    return false;
  }
}

/** What is missing where a program is not installed. */
export function lacks(program: string, ...args: string[]): string | undefined {
  return isInstalled(program, ...args) ? undefined : `there is no ${program}`;
}

/** A test that is ignored, and says so in its name, where something is missing. */
export function testWith(
  missing: string | undefined,
  name: string,
  body: () => Promise<void>,
  options: { sanitizeOps?: boolean; sanitizeResources?: boolean } = {},
): void {
  Deno.test({ ...unless(missing, name), fn: body, ...options });
}

/** A process that prints a port when it serves. */
export class PortProcess {
  readonly port: number;
  readonly #child: Deno.ChildProcess;

  private constructor(child: Deno.ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async start(program: string, args: readonly string[]): Promise<PortProcess> {
    const child = new Deno.Command(program, {
      args: [...args],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const reader = child.stdout.getReader();
    const { value } = await reader.read();
    // Not cancelled: the process may not be done writing its line.
    reader.releaseLock();
    const port = Number(new TextDecoder().decode(value));
    assert.ok(port > 0, `${program} ${args.join(" ")} gave no port`);
    return new PortProcess(child, port);
  }

  /** The most memory it has held at once (`VmHWM`). */
  async peakBytes(): Promise<number> {
    const status = await Deno.readTextFile(`/proc/${this.#child.pid}/status`);
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) * 1024;
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.stdin.close().catch(() => {});
    await this.#child.stdout.cancel();
    await this.#child.status;
  }
}

/** A certificate authority, a server certificate for localhost, and a client certificate. */
export interface Certificates {
  readonly directory: string;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly clientCert: string;
  readonly clientKey: string;
}

/** Makes them with openssl, in a folder the caller removes. */
export async function makeCertificates(): Promise<Certificates> {
  const directory = await Deno.makeTempDir();
  const at = (name: string) => `${directory}/${name}`;
  const openssl = async (...args: string[]) => {
    const { success, stderr } = await runTool("openssl", args);
    assert.ok(success, stderr);
  };
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  await openssl(
    ...["req", "-x509", ...newKey, "-keyout", at("ca.key"), "-out", at("ca.pem"), "-days", "2"],
    ...["-subj", "/CN=test authority"],
  );
  for (
    const [name, extension] of [
      ["server", "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth"],
      ["client", "extendedKeyUsage=clientAuth"],
    ] as const
  ) {
    const request = at(`${name}.csr`);
    await openssl(
      "req",
      ...newKey,
      "-keyout",
      at(`${name}.key`),
      "-out",
      request,
      "-subj",
      `/CN=${name}`,
    );
    await Deno.writeTextFile(at(`${name}.ext`), extension);
    await openssl(
      ...["x509", "-req", "-in", request, "-CA", at("ca.pem"), "-CAkey", at("ca.key")],
      ...[
        "-CAcreateserial",
        "-out",
        at(`${name}.pem`),
        "-days",
        "2",
        "-extfile",
        at(`${name}.ext`),
      ],
    );
  }
  const read = (name: string) => Deno.readTextFile(at(name));
  return {
    directory,
    ca: await read("ca.pem"),
    cert: await read("server.pem"),
    key: await read("server.key"),
    clientCert: await read("client.pem"),
    clientKey: await read("client.key"),
  };
}
