/** Compiles a regular model's programs, checks them and runs them on their golden inputs. */
import {
  type Bundle,
  checkSignature,
  compareTensors,
  GOLDEN_FILE,
  type GoldenCase,
  GoldenFile,
  type ModelBundle,
  type ProgramFile,
  readHook,
  readProgram,
  type Tolerance,
} from "../../bundle/mod.ts";
import { BundleError, messageOf } from "../../errors.ts";
import type { Backend, DeviceBuffer, Program } from "../../runtime/mod.ts";
import { formatShape, type NamedTensor, sameShape } from "../../tensor/mod.ts";

type Print = (line: string) => void;

/**
 * Checks a regular model. Prints one line per program and output. `false` when anything is wrong; every program
 * is tried. Programs run one after another; the weights are on the device once.
 */
export async function validateBundle(
  bundle: ModelBundle,
  backend: Backend,
  print: Print,
): Promise<boolean> {
  await printHead(bundle, print);
  using golden = GoldenFile.open(bundle);
  if (golden === undefined) print(`  note  no ${GOLDEN_FILE}: outputs are not compared`);
  using weights = new DisposableStack();
  const uploaded: DeviceBuffer[] = [];
  for (const [index, spec] of bundle.weights.specs.entries()) {
    uploaded.push(weights.use(await backend.upload(spec, await bundle.weights.read(index))));
  }
  bundle.weights.check();
  let isValid = true;
  for (const program of bundle.programs.flatMap(({ files }) => files)) {
    try {
      const check = { bundle, backend, program, weights: uploaded, golden, print };
      isValid = await validateProgram(check) && isValid;
    } catch (error) {
      print(`  FAIL  ${messageOf(error)}`);
      isValid = false;
    }
  }
  return isValid;
}

/** The name and what is said of every bundle; reads the hook file. @throws {BundleError} when it cannot be read */
export async function printHead(bundle: Bundle, print: Print): Promise<void> {
  print(bundle.name);
  for (const warning of bundle.warnings) print(`  warn  ${warning}`);
  if (bundle.hook !== undefined) await readHook(bundle.name, bundle.hook);
}

interface ProgramCheck {
  readonly bundle: ModelBundle;
  readonly backend: Backend;
  readonly program: ProgramFile;
  readonly weights: readonly DeviceBuffer[];
  readonly golden: GoldenFile | undefined;
  readonly print: Print;
}

async function validateProgram(check: ProgramCheck): Promise<boolean> {
  const { bundle, backend, program, golden, print } = check;
  const startMs = performance.now();
  using compiled = await compile(bundle, backend, program);
  const compileMs = Math.round(performance.now() - startMs);
  const { batchSize } = checkSignature(bundle, program, compiled.signature);
  const batch = batchSize === 0 ? "no batch axis" : `batch size ${batchSize}`;
  print(`  ok    ${program.fileName}: compiled in ${compileMs} ms, fits the bundle, ${batch}`);
  const recorded = golden?.caseOf(program);
  if (recorded === undefined) {
    if (golden) print(`  note  ${program.fileName}: no golden tensors`);
    return true;
  }
  return await compareOutputs(check, compiled, recorded, golden!.tolerance);
}

async function compile(
  bundle: ModelBundle,
  backend: Backend,
  program: ProgramFile,
): Promise<Program> {
  const code = await readProgram(bundle.name, program);
  try {
    return await backend.compile(code);
  } catch (error) {
    const problem = `${program.fileName} does not compile: ${messageOf(error)}`;
    throw new BundleError(bundle.name, problem, { cause: error });
  }
}

async function compareOutputs(
  { backend, program, weights, print }: ProgramCheck,
  compiled: Program,
  recorded: GoldenCase,
  tolerance: Tolerance,
): Promise<boolean> {
  using buffers = new DisposableStack();
  const inputs: DeviceBuffer[] = [];
  for (const { datatype, shape, data } of recorded.inputs) {
    inputs.push(buffers.use(await backend.upload({ datatype, shape }, data)));
  }
  const results = await compiled.execute([...inputs, ...weights]);
  for (const result of results) buffers.use(result);
  let isWithin = true;
  for (const [index, expected] of recorded.outputs.entries()) {
    const { shape } = results[index]!;
    const found = { shape, data: await backend.download(results[index]!) };
    isWithin = compareOutput(`${program.fileName}: output`, expected, found, tolerance, print) &&
      isWithin;
  }
  return isWithin;
}

/** Prints how an output differs from its golden twin. @returns whether it is within the tolerance */
export function compareOutput(
  what: string,
  expected: NamedTensor,
  found: { readonly shape: readonly number[]; readonly data: Uint8Array },
  tolerance: Tolerance,
  print: Print,
): boolean {
  const label = `${what} ${JSON.stringify(expected.name)}`;
  if (!sameShape(found.shape, expected.shape)) {
    print(
      `  FAIL  ${label} has shape ${formatShape(found.shape)}, golden ${
        formatShape(expected.shape)
      }`,
    );
    return false;
  }
  const difference = compareTensors(expected, found.data, tolerance);
  const measured = difference.isIdentical
    ? "identical to golden"
    : `largest difference ${difference.largestAbsolute.toExponential(2)} absolute, ` +
      `${difference.largestRelative.toExponential(2)} relative`;
  const verdict = difference.isWithin ? "ok  " : "FAIL";
  const limit = difference.isWithin
    ? ""
    : `, more than ${tolerance.atol} + ${tolerance.rtol} x golden`;
  print(`  ${verdict}  ${label} ${measured}${limit}`);
  return difference.isWithin;
}
