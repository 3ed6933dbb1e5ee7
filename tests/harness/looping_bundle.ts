/** A model that computes for as long as it is told to. */

import { rowMajorBundle, stablehlo, writeBundle } from "./bundle_builder.ts";

const [FACTOR, ADDEND] = [1664525, 1013904223];

/** Writes a model from `x` INT32 [1, 1] to `y`: as many steps of `step` as `x` says, from 1. */
export async function writeLooping(root: string, name: string): Promise<void> {
  const scalar = "tensor<i32>";
  const program = (type: string) =>
    stablehlo([type], [type], [
      "%one = stablehlo.constant dense<1> : tensor<i32>",
      "%zero = stablehlo.constant dense<0> : tensor<i32>",
      `%factor = stablehlo.constant dense<${FACTOR}> : tensor<i32>`,
      `%addend = stablehlo.constant dense<${ADDEND}> : tensor<i32>`,
      `%n = stablehlo.reshape %arg0 : (tensor<${type}>) -> ${scalar}`,
      `%r:2 = stablehlo.while(%i = %zero, %value = %one) : ${scalar}, ${scalar}`,
      `cond { %c = stablehlo.compare LT, %i, %n : (${scalar}, ${scalar}) -> tensor<i1>`,
      "  stablehlo.return %c : tensor<i1> }",
      `do { %next = stablehlo.add %i, %one : ${scalar}`,
      `  %product = stablehlo.multiply %value, %factor : ${scalar}`,
      `  %sum = stablehlo.add %product, %addend : ${scalar}`,
      `  stablehlo.return %next, %sum : ${scalar}, ${scalar} }`,
      `%y = stablehlo.reshape %r#1 : (${scalar}) -> tensor<${type}>`,
    ], ["%y"]);
  const io = { inputs: ["x"], outputs: ["y"] };
  await writeBundle(
    root,
    name,
    rowMajorBundle({ ...io, dtype: "i32", width: 1, sizes: [1], program }),
  );
}

/** What the model answers after so many steps. */
export function valueAfter(steps: number): number {
  let value = 1;
  for (let i = 0; i < steps; i++) value = (Math.imul(value, FACTOR) + ADDEND) | 0;
  return value;
}
