"""Weights that float16 can hold, so that a checkpoint of half the size gives the same scores to the last bit.

A model is rounded once, before anything is measured with it: features, constants and scores are the rounded model's, in
training as at inference. Vectors (biases, batch-norm statistics) stay as they are; they weigh nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

_HALF_MAX = 65_504.0


def round_to_float16(tensor: Tensor) -> Tensor:
    """The nearest values that float16 can hold, in the tensor's own dtype; unchanged where one is out of its range."""
    if not bool((tensor.abs() <= _HALF_MAX).all()):
        return tensor
    return tensor.half().to(tensor.dtype)


@torch.no_grad()
def round_weights(module: nn.Module) -> None:
    """Round, in place, every matrix and kernel among a module's parameters."""
    for parameter in module.parameters():
        if parameter.dim() >= 2:
            parameter.copy_(round_to_float16(parameter))


def as_float16_if_exact(tensor: Tensor) -> Tensor:
    """The tensor as float16 where that changes no value, else as it is."""
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def as_float16(values: Tensor) -> npt.NDArray[np.float16]:
    """Values as they are kept: what float16 cannot hold becomes its largest value."""
    largest = torch.finfo(torch.float16).max
    return values.clamp(-largest, largest).half().cpu().numpy()
