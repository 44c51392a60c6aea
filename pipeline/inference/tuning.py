"""How a model is run on this machine: in which precision, and compiled or as it stands."""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from pipeline.config import RuntimeSettings
from pipeline.methods import DEFAULT_METHOD, method_of
from pipeline.models.anomaly_model import Encode
from pipeline.private_folder import cache_folder

if TYPE_CHECKING:  # it imports timm, which most detectors can do without
    from pipeline.models.encoder import Encoder

_Module = TypeVar("_Module", bound=nn.Module)

# A matrix product of the flows' kind; bfloat16 must beat float32 by this factor to be worth its rounding. A GPU gets a
# batch's rows: it multiplies few of them in less time than it takes to ask it to, which is the same in any precision.
_ROWS, _WIDTH, _ROUNDS = {"cpu": 2048, "cuda": 2**16}, 352, 20
_WORTHWHILE = 1.2
# Dynamo keeps this many variants of one piece of code: one for each level, device and precision in the process.
_VARIANTS = 64
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a model is run.

    Attributes:
        precision: of the flows' matrix products. The encoder and all sums are float32 always: an encoder in bfloat16
            costs most of a point of AUROC, for whitening blows its rounding up. On a GPU convolutions round their
            inputs to TF32, as is torch's default: three digits, which Ped2's AUROC does not notice.
        compiled: whether ``torch.compile`` makes machine code for the model.
        why: what was measured to decide so, in words; decides nothing itself.
    """

    precision: torch.dtype = torch.float32
    compiled: bool = False
    why: str = field(default="", compare=False)

    def as_json(self) -> dict[str, Any]:
        """What ``of_json`` reads."""
        precision = str(self.precision).removeprefix("torch.")
        return {"precision": precision, "compiled": self.compiled, "why": self.why}

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Tuning:
        """What ``as_json`` gave."""
        return cls(PRECISIONS[said["precision"]], said["compiled"], said["why"])

    def __str__(self) -> str:
        how = f"{str(self.precision).removeprefix('torch.')}, {'compiled' if self.compiled else 'not compiled'}"
        return f"{how} ({self.why})" if self.why else how


PLAIN = Tuning()
"""As it was trained: the reference."""


def choose_tuning(settings: RuntimeSettings, device: torch.device, method: str = DEFAULT_METHOD) -> Tuning:
    """Decide how to run a model on a device.

    Args:
        settings: ``precision`` and ``compile`` are read.
        device: where the model is going to run.
        method: of the model; only flows have products that ``precision`` speaks of.
    """
    compiled = can_compile(device) if settings.compile is None else settings.compile
    if not method_of(method).packaged:
        return Tuning(torch.float32, compiled)
    if settings.precision != "auto":
        return Tuning(PRECISIONS[settings.precision], compiled)
    rates = _products_per_s(device)
    fastest = "bfloat16" if rates["bfloat16"] > _WORTHWHILE * rates["float32"] else "float32"
    measured = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in rates.items())
    return Tuning(PRECISIONS[fastest], compiled, f"matrix products: {measured}")


def can_compile(device: torch.device) -> bool:
    """Whether there is what ``torch.compile`` needs: a C++ compiler for a CPU, Triton for a GPU."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return bool(has_triton())
    compilers = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return any(shutil.which(name) for name in compilers if name)


def compile_module(module: _Module, *, freeze: bool = False) -> _Module:
    """Let a module be compiled at its first call.

    Compiled kernels are kept on disk, in this user's cache folder, so only the first start on a machine pays for the
    C++ compiler. Graphs are not: reading them back would unpickle a file.

    Args:
        module: its forward is compiled, in place.
        freeze: whether its weights may become constants, which lets them be laid out anew (convolutions gain).

    Raises:
        OSError: as ``cache_folder``.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder("kernels")))
    # It warns of a CUDA toolkit on a machine without a GPU, which is nothing to worry about.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _VARIANTS)
    options: dict[str, Any] = {"fx_graph_cache": False, "freezing": freeze}
    module.compile(options=options)
    return module


def compiled_encoder(encoder: Encoder) -> Encode:
    """An encoder that is compiled in this process, once for every size of image and for any number of them from 2 on.

    For methods that look at images of several sizes; flows have a package that is made beforehand
    (``pipeline.inference.packages``).

    Args:
        encoder: as ``Encoder.for_inference`` gives it; compiled in place.
    """
    compile_module(encoder, freeze=True)

    def encode(images: Tensor) -> Sequence[Tensor]:
        count = len(images)
        images = as_compiled(images)
        torch._dynamo.maybe_mark_dynamic(images, 0)
        # Otherwise the second size (DifferNet's scales) makes torch look for code that suits any, which is slower, and
        # cannot be had of encoders that compute their padding from the size.
        for dimension in (1, 2, 3):
            torch._dynamo.mark_static(images, dimension)
        return [level[:count] for level in encoder(images)]

    return encode


def as_compiled(values: Tensor, order: torch.memory_format = torch.contiguous_format) -> Tensor:
    """What compiled code takes: values of two frames at least, in the order in memory that the code was made for.

    One that was compiled ahead of time does not look: it would read whatever lies where it expects the next value.

    Args:
        values: of at least one frame, its number being the first dimension; a lone frame is taken twice.
        order: in memory.
    """
    if len(values) == 1:
        values = values.expand(2, *values.shape[1:])
    return values.contiguous(memory_format=order)


def _products_per_s(device: torch.device) -> dict[str, float]:
    """Floating-point operations per second of matrix products of the flows' kind, by precision.

    The best of rounds in which they take turns: beside other processes that start, a median of either would say more of
    these than of the machine, and the next run would decide otherwise.
    """
    rows = _ROWS[device.type]
    operands = {
        name: [torch.ones(*shape, dtype=precision, device=device) for shape in ((rows, _WIDTH), (_WIDTH, _WIDTH))]
        for name, precision in PRECISIONS.items()
    }
    seconds = dict.fromkeys(operands, math.inf)
    for number in range(_ROUNDS):
        for name, (left, right) in operands.items():
            started = time.perf_counter()
            float((left @ right)[0, 0])  # reading a value waits for the device
            if number > 0:  # the first one warms up
                seconds[name] = min(seconds[name], time.perf_counter() - started)
    return {name: 2.0 * rows * _WIDTH * _WIDTH / best for name, best in seconds.items()}
