"""Makes reactantserver bundles from models of Python frameworks.

:func:`export_jax` takes a JAX function and its parameters, :func:`export_torch` a ``torch.nn.Module``
(and needs PyTorch only when it is called). Both write a bundle directory: one StableHLO program per batch
size and variant, the weights, the manifest, and golden inputs and outputs by which a server can check
itself (``bundle validate``). :func:`write_meta` writes a meta model, whose hook file chains others.

Serving is not this package's business: it needs no server and no device.
"""

from .errors import ExportError
from .jax_export import export_jax
from .meta_export import write_meta
from .tensors import ClientTensor, Input
from .torch_export import export_torch

__all__ = ["ClientTensor", "ExportError", "Input", "export_jax", "export_torch", "write_meta"]
