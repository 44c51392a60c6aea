"""Which device a command computes on."""

from __future__ import annotations

import torch

from pipeline.config import Config
from pipeline.errors import ConfigError


def torch_device(config: Config) -> str:
    """The torch device that ``runtime.device`` names.

    Raises:
        ConfigError: it is a GPU, and there is none.
    """
    wanted = config.runtime.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("runtime.device: expected a CUDA device on this machine, got none")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
