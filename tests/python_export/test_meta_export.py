"""write_meta: what it writes, read with independent libraries, and what it refuses."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import numpy as np
import yaml
from reactant_export import ClientTensor, ExportError, write_meta
from safetensors import safe_open

HOOK = 'register_meta("m", (inputs, call) => call("stage", inputs));\n'
INPUTS = [ClientTensor("image", "u8", ("h", "w", 3))]
OUTPUTS = [ClientTensor("score", "f32", ("k",)), ClientTensor("count", "i32", ())]
GOLDEN = {
    "golden_inputs": {"image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3)},
    "golden_outputs": {"count": np.array(2, np.int32), "score": np.array([0.5, 0.25], np.float32)},
}


class MetaCase(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.hook = self.folder / "hook.ts"
        self.hook.write_text(HOOK)
        self.models = self.folder / "models"

    def write(self, **settings) -> Path:
        settings = {"hook": self.hook, "calls": ["stage"], **settings}
        settings = {"client_inputs": INPUTS, "client_outputs": OUTPUTS, **settings}
        return write_meta(directory=self.models / "m", **settings)

    def assert_refused(self, message: str, **settings) -> None:
        with self.assertRaisesRegex(ExportError, message):
            self.write(**settings)
        left = list(self.models.iterdir()) if self.models.exists() else []
        self.assertEqual(left, [], "a refused export leaves something behind")


class WhatIsWritten(MetaCase):
    def test_bundle_has_manifest_hook_assets_and_golden_file(self) -> None:
        asset = self.folder / "words.txt"
        asset.write_text("a b")
        directory = self.write(**GOLDEN, assets=[asset], atol=0.5, description="Two stages.")
        names = sorted(path.name for path in directory.iterdir())
        self.assertEqual(names, ["golden.safetensors", "manifest.yaml", "model.ts", "words.txt"])
        self.assertEqual((directory / "model.ts").read_text(), HOOK)
        manifest = yaml.safe_load((directory / "manifest.yaml").read_text())
        self.assertEqual(manifest.pop("provenance")["exporter"], "reactant_export")
        self.assertEqual(
            manifest,
            {
                "format_version": "2.0",
                "description": "Two stages.",
                "axis_order": "row_major",
                "kind": "meta",
                "meta": {"calls": ["stage"]},
                "client_inputs": [
                    {"name": "image", "dtype": "u8", "shape": "hwa", "dims": {"h": -1, "w": -1, "a": 3}}
                ],
                "client_outputs": [
                    {"name": "score", "dtype": "f32", "shape": "k", "dims": {"k": -1}},
                    {"name": "count", "dtype": "i32", "shape": ""},
                ],
            },
        )
        with safe_open(directory / "golden.safetensors", "numpy") as golden:
            self.assertEqual(golden.metadata(), {"atol": "0.5", "rtol": "1e-05"})
            keys = sorted(golden.keys())
            self.assertEqual(keys, ["b0/input/image", "b0/output/count", "b0/output/score"])
            for side in ("input", "output"):
                for name, array in GOLDEN[f"golden_{side}s"].items():
                    found = golden.get_tensor(f"b0/{side}/{name}")
                    self.assertEqual((found.dtype, found.shape), (array.dtype, array.shape))
                    np.testing.assert_array_equal(found, array)

    def test_several_hook_files_are_joined_in_order(self) -> None:
        first = self.folder / "first.ts"
        first.write_text("const a = 1;\n")
        directory = self.write(hook=[first, self.hook])
        self.assertEqual((directory / "model.ts").read_text(), "const a = 1;\n\n" + HOOK)
        self.assertFalse((directory / "golden.safetensors").exists())

    def test_a_bundle_is_replaced_only_when_told_to(self) -> None:
        self.write()
        with self.assertRaisesRegex(ExportError, "exists; say overwrite"):
            self.write()
        self.write(overwrite=True, calls=["other"])
        manifest = yaml.safe_load((self.models / "m" / "manifest.yaml").read_text())
        self.assertEqual(manifest["meta"], {"calls": ["other"]})
        self.assertEqual([path.name for path in self.models.iterdir()], ["m"])


class WhatIsRefused(MetaCase):
    def test_calls(self) -> None:
        self.assert_refused("the meta model itself", calls=["m"])
        self.assert_refused('calls "stage" is declared twice', calls=["stage", "stage"])
        self.assert_refused("names of models", calls=[""])

    def test_tensors(self) -> None:
        self.assert_refused("client_outputs must name", client_outputs=[])
        self.assert_refused("declared twice", client_inputs=[*INPUTS, *INPUTS])
        self.assert_refused("dtype", client_inputs=[ClientTensor("x", "f33", ())])

    def test_golden_tensors(self) -> None:
        inputs, outputs = GOLDEN["golden_inputs"], GOLDEN["golden_outputs"]
        self.assert_refused("both or none", golden_inputs=inputs)
        self.assert_refused("where the tensors are", golden_inputs={}, golden_outputs=outputs)
        wide = {"image": inputs["image"].astype(np.float32)}
        self.assert_refused("float32", golden_inputs=wide, golden_outputs=outputs)
        deep = {"image": np.zeros((2, 2, 4), np.uint8)}
        self.assert_refused("expected uint8", golden_inputs=deep, golden_outputs=outputs)

    def test_files(self) -> None:
        self.assert_refused("not a file", hook=self.folder / "none.ts")
        self.assert_refused("needs a hook", hook=[])
        clash = self.folder / "model.ts"
        clash.write_text("")
        self.assert_refused("would overwrite model.ts", assets=[clash])


if __name__ == "__main__":
    unittest.main()
