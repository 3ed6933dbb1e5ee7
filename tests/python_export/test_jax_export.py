"""The JAX exporter: what it writes, read with independent libraries, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import yaml
from reactant_export import ClientTensor, ExportError, Input, export_jax
from safetensors import safe_open

DENSE = {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "bias": np.ones(4, np.float32)}


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


class ExportCase(unittest.TestCase):
    """Exports into a folder of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def export(self, fn=dense, params=DENSE, **settings) -> Path:
        settings = {"inputs": [Input("x", "f32", ("n", 3))], "batch_sizes": [1, 2], **settings}
        return export_jax(fn, params, self.folder / "model", **settings)

    def manifest(self) -> dict:
        return yaml.safe_load((self.folder / "model" / "manifest.yaml").read_text())

    def assert_refused(self, message: str, fn=dense, params=DENSE, **settings) -> None:
        with self.assertRaisesRegex(ExportError, message):
            self.export(fn, params, **settings)
        self.assertEqual(list(self.folder.iterdir()), [], "a refused export leaves something behind")


class WhatIsWritten(ExportCase):
    def test_bundle_has_manifest_programs_weights_and_golden_file(self) -> None:
        directory = self.export()
        names = sorted(path.name for path in directory.iterdir())
        expected = ["golden.safetensors", "manifest.yaml", "model.b1.mlir", "model.b2.mlir"]
        self.assertEqual(names, [*expected, "weights.safetensors"])
        manifest = self.manifest()
        self.assertEqual(manifest["format_version"], "2.0")
        self.assertEqual(manifest["axis_order"], "row_major")
        x = {"name": "x", "dtype": "f32", "shape": "na", "dims": {"a": 3}}
        self.assertEqual(manifest["executable_inputs"], [x])
        output = {"name": "output", "dtype": "f32", "shape": "na", "dims": {"a": 4}}
        self.assertEqual(manifest["executable_outputs"], [output])
        self.assertEqual(manifest["batching"], {"compiled_batch_sizes": [1, 2]})
        self.assertEqual(manifest["provenance"]["jax"], jax.__version__)

    def test_weights_are_row_major_in_argument_order(self) -> None:
        directory = self.export()
        with safe_open(directory / "weights.safetensors", "numpy") as file:
            order = json.loads(file.metadata()["argument_order"])
            self.assertEqual(order, ["bias", "kernel"])
            np.testing.assert_array_equal(file.get_tensor("kernel"), DENSE["kernel"])

    def test_golden_file_holds_inputs_outputs_and_tolerances(self) -> None:
        directory = self.export(atol=1e-4, rtol=1e-3)
        with safe_open(directory / "golden.safetensors", "numpy") as file:
            self.assertEqual(file.metadata(), {"atol": "0.0001", "rtol": "0.001"})
            names = {f"b{n}/{part}" for n in (1, 2) for part in ("input/x", "output/output")}
            self.assertEqual(set(file.keys()), names)
            x, y = file.get_tensor("b2/input/x"), file.get_tensor("b2/output/output")
            # The products are small integers times normal numbers: NumPy agrees to rounding.
            np.testing.assert_allclose(y, x @ DENSE["kernel"] + DENSE["bias"], rtol=1e-5)

    def test_programs_are_portable_artifacts_of_the_asked_version_without_paths(self) -> None:
        for version in ("1.9.0", "1.5.0"):
            directory = self.export(stablehlo_version=version, overwrite=True)
            code = (directory / "model.b1.mlir").read_bytes()
            self.assertTrue(code.startswith(b"ML\xefR"))
            self.assertIn(f"StableHLO_v{version}\0".encode(), code)
            self.assertNotIn(b".py", code)

    def test_program_keeps_unused_arguments(self) -> None:
        directory = self.export(lambda p, x: x + p["bias"][:3])
        from jaxlib.mlir import ir
        from jaxlib.mlir.dialects import stablehlo

        code = (directory / "model.b2.mlir").read_bytes()
        module = stablehlo.deserialize_portable_artifact(ir.Context(), code)
        signature = re.search(r"@main\((.*?)\)", str(module))[1]
        self.assertEqual(re.findall(r"tensor<(.*?)>", signature), ["2x3xf32", "4xf32", "3x4xf32"])

    def test_two_exports_are_equal_byte_for_byte(self) -> None:
        def contents() -> dict[str, bytes]:
            directory = self.export(reproducible=True, overwrite=True)
            return {path.name: path.read_bytes() for path in directory.iterdir()}

        self.assertEqual(contents(), contents())

    def test_every_dtype_reaches_manifest_and_files(self) -> None:
        types = {
            "bool": np.bool_, "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64,
            "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64, "f16": np.float16,
            "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64,
        }  # fmt: skip
        params = {token: np.ones((2,), dtype) for token, dtype in types.items()}
        params["f8_e5m2"] = np.ones((2,), ml_dtypes.float8_e5m2)
        params["f8_e4m3"] = np.ones((2,), ml_dtypes.float8_e4m3fn)
        inputs = [Input(f"{token}_in", token, (2,)) for token in types]
        self.export(
            lambda p, *x: [v & p["bool"] if t == "bool" else v + p[t] for t, v in zip(types, x, strict=True)],
            params,
            inputs=inputs,
            outputs=list(types),
            batch_sizes=[],
        )
        manifest = self.manifest()
        self.assertEqual([tensor["dtype"] for tensor in manifest["executable_inputs"]], list(types))
        self.assertEqual([tensor["dtype"] for tensor in manifest["executable_outputs"]], list(types))
        raw = (self.folder / "model" / "weights.safetensors").read_bytes()
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        tags = {name: entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
        self.assertEqual(tags, {token: token.upper() for token in params})

    def test_variants_and_scalars_name_files_and_letters(self) -> None:
        directory = self.export(
            lambda _, x, y: {"sum": x + y, "size": jnp.float32(1)},
            None,
            inputs=[Input("x", "f32", ("h", "w")), Input("y", "f32", ("w",))],
            batch_sizes=[],
            variants=[{"h": 2, "w": 3}, {"h": 4, "w": 5}],
        )
        self.assertTrue((directory / "model.v0.mlir").exists())
        self.assertTrue((directory / "model.v1.mlir").exists())
        manifest = self.manifest()
        self.assertEqual(manifest["input_shapes"], [{"h": 2, "w": 3}, {"h": 4, "w": 5}])
        total, size = manifest["executable_outputs"]
        self.assertEqual((total["shape"], total["dims"]), ("hw", {"h": -1, "w": -1}))
        self.assertEqual((size["shape"], "dims" in size), ("", False))
        with safe_open(directory / "golden.safetensors", "numpy") as file:
            self.assertEqual(file.get_tensor("v1.b0/output/sum").shape, (4, 5))

    def test_a_single_batch_size_is_still_seen_as_the_batch_axis(self) -> None:
        self.export(lambda p, x: (x, x.T, x.sum(0)), batch_sizes=[3])
        shapes = [tensor["shape"] for tensor in self.manifest()["executable_outputs"]]
        self.assertEqual(shapes, ["na", "an", "a"])

    def test_hook_and_assets_are_copied(self) -> None:
        hook, vocabulary = self.folder / "hook.ts", self.folder / "vocabulary.txt"
        hook.write_text("register_model(bundle.name, {});\n")
        vocabulary.write_text("a\n")
        text = ClientTensor("text", "bytes", ("n",))
        directory = self.export(hook=hook, assets=[vocabulary], client_inputs=[text])
        self.assertEqual((directory / "model.ts").read_text(), hook.read_text())
        self.assertEqual((directory / "vocabulary.txt").read_text(), "a\n")
        self.assertEqual(self.manifest()["client_inputs"], [{"name": "text", "dtype": "bytes", "shape": "n"}])

    def test_reference_supplies_the_golden_outputs(self) -> None:
        directory = self.export(reference=lambda x: np.full((len(x), 4), 7, np.float32))
        with safe_open(directory / "golden.safetensors", "numpy") as file:
            self.assertEqual(file.get_tensor("b2/output/output").tolist(), [[7] * 4] * 2)

    def test_overwrite_replaces_a_bundle_and_nothing_else(self) -> None:
        self.export()
        with self.assertRaisesRegex(ExportError, "exists"):
            self.export()
        self.export(overwrite=True, batch_sizes=[4])
        self.assertFalse((self.folder / "model" / "model.b1.mlir").exists())
        self.assertEqual([path.name for path in self.folder.iterdir()], ["model"])
        (self.folder / "model" / "manifest.yaml").unlink()
        with self.assertRaisesRegex(ExportError, "no bundle"):
            self.export(overwrite=True)


class WhatIsRefused(ExportCase):
    def test_inputs(self) -> None:
        self.assert_refused('dtype "float"', inputs=[Input("x", "float", ("n", 3))])
        self.assert_refused("positive, got 0", inputs=[Input("x", "f32", ("n", 0))])
        self.assert_refused("one ASCII letter", inputs=[Input("x", "f32", ("nn", 3))])
        self.assert_refused("two batch axes", inputs=[Input("x", "f32", ("n", "b"))])
        self.assert_refused("two axes", inputs=[Input("x", "f32", ("s", "s"))])
        self.assert_refused("takes no bytes", inputs=[Input("x", "bytes", ("n",))])
        twice = [Input("x", "f32", ("n", 3)), Input("x", "f32", ("n", 3))]
        self.assert_refused("declared twice", inputs=twice)
        mixed = [Input("x", "f32", ("n", 3)), Input("y", "f32", (3,))]
        self.assert_refused('either every input.*"y"', lambda p, x, y: x, inputs=mixed)

    def test_batch_sizes_and_variants(self) -> None:
        self.assert_refused("say which batch_sizes", batch_sizes=[])
        self.assert_refused("no input has a batch axis", inputs=[Input("x", "f32", (2, 3))])
        self.assert_refused("positive integers", batch_sizes=[1, -2])
        self.assert_refused("twice", batch_sizes=[2, 2])
        variable = [Input("x", "f32", ("n", "s"))]
        self.assert_refused("say which variants", inputs=variable)
        self.assert_refused("must give a size", inputs=variable, variants=[{"t": 3}])
        self.assert_refused("must be positive", inputs=variable, variants=[{"s": 0}])
        self.assert_refused("same sizes", inputs=variable, variants=[{"s": 3}, {"s": 3}])

    def test_the_function_and_its_results(self) -> None:
        self.assert_refused("model.b1.mlir: the function fails", lambda p, x: x @ x)
        self.assert_refused("2 results, but 1 outputs", lambda p, x: (x, x), outputs=["y"])
        self.assert_refused('no output "z"', lambda p, x: {"y": x}, outputs=["z"])
        self.assert_refused("not one array", lambda p, x: [{"y": x}])
        self.assert_refused("no outputs", lambda p, x: [])
        self.assert_refused("cannot hold", lambda p, x: x.astype(jnp.complex64))
        self.assert_refused("size 0", lambda p, x: x[:, :0])
        self.assert_refused("clients cannot", lambda p, x: x.astype(jnp.float8_e5m2))

    def test_weights(self) -> None:
        self.assert_refused('weight "scale" is a float', lambda p, x: x, {"scale": 1.0})
        self.assert_refused('weight "z".*complex64', lambda p, x: x, {"z": np.ones(2, np.complex64)})

    def test_client_side_and_files(self) -> None:
        self.assert_refused("needs a hook", client_inputs=[ClientTensor("t", "bytes", ("n",))])
        self.assert_refused("is not a file", hook=self.folder / "absent.ts")

    def test_versions_and_examples(self) -> None:
        self.assert_refused("not of the form", stablehlo_version="new")
        self.assert_refused("this jaxlib writes", stablehlo_version="99.0.0")
        self.assert_refused("where the inputs are", example=lambda random, shapes: {})
        self.assert_refused("expected float32", example=lambda random, shapes: {"x": np.zeros(3)})


class CommandLine(ExportCase):
    MODEL = """
from reactant_export import Input

def model():
    return {"fn": lambda p, x: x + 1, "params": None, "inputs": [Input("x", "f32", ("n", 3))]}

def torch_without_module():
    return {"inputs": [], "batch_sizes": [1]}

def typo():
    return {**model(), "batchsizes": [1]}
"""

    def run_cli(
        self, function: str, *options: str, framework: str = "jax"
    ) -> subprocess.CompletedProcess[str]:
        file = self.folder / "mine.py"
        file.write_text(self.MODEL)
        command = [sys.executable, "-m", "reactant_export", framework, f"{file}:{function}"]
        command += [str(self.folder / "models" / "mine"), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_it_exports_what_the_function_returns(self) -> None:
        done = self.run_cli("model", "--batch-sizes", "1,4")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue((self.folder / "models" / "mine" / "model.b4.mlir").exists())

    def test_mistakes_are_one_line(self) -> None:
        for framework, function, message in (
            ("jax", "absent", "has no function absent"),
            ("jax", "typo", "'batchsizes'.*does not take"),
            ("jax", "model", "say which batch_sizes"),
            ("jax", "torch_without_module", r"\['fn', 'params'\], which export_jax needs"),
            ("torch", "torch_without_module", r"\['module'\], which export_torch needs"),
        ):
            done = self.run_cli(function, framework=framework)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, f"^reactant_export: .*{message}")
            self.assertEqual(done.stderr.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
