/** Prints what a bundle holds. */
import {
  type Bundle,
  formatVariant,
  GOLDEN_FILE,
  GoldenFile,
  type ManifestTensor,
  type MetaBundle,
  type ModelBundle,
} from "../../bundle/mod.ts";
import { formatSpec } from "../../tensor/mod.ts";
import { formatBytes, printTable } from "../table.ts";

type Print = (line: string) => void;

/** Weights listed one by one; the rest are summed up. */
const MAX_WEIGHTS_SHOWN = 100;

/** Prints a loaded bundle: what clients see, programs, weights, warnings. Shapes are in wire order. */
export function printBundle(bundle: Bundle, print: Print): void {
  const { manifest } = bundle;
  print(`${bundle.name} (${bundle.kind}, axis_order ${manifest.axisOrder}) in ${bundle.directory}`);
  if (manifest.description !== "") print(`  ${manifest.description}`);
  if (bundle.hook !== undefined) print(`  hook file: ${bundle.hook.path}`);
  if (bundle.kind === "meta") print(`  calls: ${manifest.calls.join(", ") || "nothing"}`);
  const hasOwnClientSide = manifest.clientInputs !== manifest.executableInputs ||
    manifest.clientOutputs !== manifest.executableOutputs;
  printTensors(hasOwnClientSide ? "client inputs" : "inputs", manifest.clientInputs, print);
  printTensors(hasOwnClientSide ? "client outputs" : "outputs", manifest.clientOutputs, print);
  if (hasOwnClientSide) {
    printTensors("executable inputs", manifest.executableInputs, print);
    printTensors("executable outputs", manifest.executableOutputs, print);
  }
  if (bundle.kind === "model") printModel(bundle, print);
  else printRequest(bundle, print);
  for (const warning of bundle.warnings) print(`  warning: ${warning}`);
}

function printTensors(title: string, tensors: readonly ManifestTensor[], print: Print): void {
  if (tensors.length === 0) return;
  print(`  ${title}`);
  const rows = tensors.map((tensor) => [tensor.name, formatSpec(tensor), describeAxes(tensor)]);
  printTable(rows, print, { indent: 4 });
}

function describeAxes({ batchAxis, variableAxes }: ManifestTensor): string {
  const batch = batchAxis === undefined ? [] : [`batch axis ${batchAxis}`];
  const variable = variableAxes.map(({ letter, axis }) => `axis ${axis} variable (${letter})`);
  return [...batch, ...variable].join(", ");
}

function printRequest(bundle: MetaBundle, print: Print): void {
  using golden = GoldenFile.open(bundle);
  if (golden?.request() !== undefined) print(`  ${GOLDEN_FILE} with a request and its answer`);
}

function printModel(bundle: ModelBundle, print: Print): void {
  print("  programs");
  const programs = bundle.programs.flatMap(({ files }) => files).map((program) => [
    program.fileName,
    program.batchKey === 0 ? "any batch size" : `batch size ${program.batchKey}`,
    formatVariant(program.variant),
    formatBytes(program.byteLength),
  ]);
  printTable(programs, print, { indent: 4 });
  const { specs, byteLength, isProgramLayout } = bundle.weights;
  const layout = specs.length === 0
    ? ""
    : isProgramLayout
    ? ", used as they are in the file"
    : ", transposed when loaded";
  print(
    `  ${specs.length} ${specs.length === 1 ? "weight" : "weights"}, ${
      formatBytes(byteLength)
    }${layout}`,
  );
  const shown = specs.slice(0, MAX_WEIGHTS_SHOWN);
  const rows = shown.map((weight) => [
    weight.name,
    formatSpec(weight),
    formatBytes(weight.byteLength),
  ]);
  printTable(rows, print, { indent: 4 });
  if (specs.length > shown.length) print(`    and ${specs.length - shown.length} more`);
  using golden = GoldenFile.open(bundle);
  const cases = bundle.programs.flatMap(({ files }) => files)
    .filter((program) => golden?.caseOf(program) !== undefined);
  if (golden) print(`  ${GOLDEN_FILE} for ${cases.length} of ${programs.length} programs`);
}
