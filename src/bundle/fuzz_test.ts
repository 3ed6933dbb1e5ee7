/** Damaged manifests and headers: whatever the damage, the answer is a clear error or a valid reading. */
import assert from "node:assert/strict";
import { denseBundle, denseWeights, safetensors } from "../../tests/harness/bundle_builder.ts";
import { ManifestError } from "../errors.ts";
import { parseManifest } from "./manifest.ts";
import { readSafetensors } from "./safetensors.ts";
import { SafetensorsError } from "./safetensors_header.ts";

const SEED = 20_260;

/** A small generator with a fixed seed: failures repeat. */
function randomSource(seed: number): (limit: number) => number {
  return (limit) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor(seed / 2 ** 32 * limit);
  };
}

/** One to four changes: a byte replaced, removed or inserted, a piece repeated, moved or cut off. */
function damage(
  bytes: Uint8Array,
  alphabet: string,
  random: (limit: number) => number,
): Uint8Array {
  let list = [...bytes];
  for (let changes = random(4) + 1; changes > 0; changes--) {
    const at = random(list.length);
    const byte = random(10) === 0 ? random(256) : alphabet.charCodeAt(random(alphabet.length));
    const piece = list.slice(at, at + random(24));
    const actions = [
      () => list[at] = byte,
      () => list.splice(at, 1),
      () => list.splice(at, 0, byte),
      () => list.splice(random(list.length), 0, ...piece),
      () => list.splice(random(list.length), piece.length, ...piece),
      () => list = list.slice(0, at),
    ];
    actions[random(actions.length)]!();
  }
  return Uint8Array.from(list);
}

Deno.test(`readSafetensors() survives 20 000 damaged files (seed ${SEED})`, () => {
  const random = randomSource(SEED);
  const original = safetensors(denseWeights());
  let accepted = 0;
  for (let round = 0; round < 20_000; round++) {
    const bytes = damage(original, '{}[]":,0123456789-.eE\\ \n_F3I', random);
    const source = {
      byteLength: bytes.length,
      view: (offset: number, length: number) => {
        assert.ok(offset >= 0 && length >= 0 && offset + length <= bytes.length);
        return bytes.subarray(offset, offset + length);
      },
    };
    try {
      const { tensors } = readSafetensors(source);
      for (const { offset, byteLength } of tensors.values()) source.view(offset, byteLength);
      accepted++;
    } catch (error) {
      assert.ok(error instanceof SafetensorsError, `round ${round}: ${error}`);
    }
  }
  // Damage to tensor data and to names goes unnoticed, as it must.
  assert.ok(accepted > 100 && accepted < 10_000, `${accepted} accepted`);
});

Deno.test(`parseManifest() survives 2 000 damaged manifests (seed ${SEED})`, () => {
  const random = randomSource(SEED);
  const original = new TextEncoder().encode(denseBundle()["manifest.yaml"] as string);
  const decoder = new TextDecoder();
  let accepted = 0;
  for (let round = 0; round < 2_000; round++) {
    const text = decoder.decode(damage(original, "{}[]\":,-?&*!|>'%@`#\n\t 0123nbdfx~.", random));
    try {
      const manifest = parseManifest("m", text, round % 2 === 0);
      assert.ok(manifest.kind === "meta" || manifest.variants.length > 0);
      accepted++;
    } catch (error) {
      assert.ok(error instanceof ManifestError, `round ${round}: ${error}\n${text}`);
    }
  }
  assert.ok(accepted > 10 && accepted < 1_500, `${accepted} accepted`);
});
