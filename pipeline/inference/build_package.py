"""Makes the package of a checkpoint, in a process of its own: what this imports and allocates goes with it.

Usage: python -m pipeline.inference.build_package FOLDER FINGERPRINT OUT PRECISION DEVICE THREADS
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import CflowError, CheckpointError
from pipeline.inference.cflow import CflowModel
from pipeline.inference.loading import load_anomaly_model
from pipeline.inference.packages import ENCODER_FILE, FLOWS_FILE, PackagedEncoder, PackagedFlows
from pipeline.inference.tuning import PRECISIONS, Tuning
from pipeline.models.card import read_card

_EXAMPLE_FRAMES = 3  # any number above 1: code for every number from 2 on is made
_MOST_FRAMES = 4096


class _Flows(nn.Module):
    """What is exported: the map that is shown, and after it the one that scores are read off where that is another."""

    def __init__(self, anomaly_model: CflowModel) -> None:
        super().__init__()
        self.anomaly_model = anomaly_model

    def forward(self, features: Sequence[Tensor], scene_rows: Tensor) -> tuple[Tensor, ...]:
        maps = self.anomaly_model(features, scene_rows)
        return (maps.shown,) if maps.scored is maps.shown else (maps.shown, maps.scored)


@torch.no_grad()
def build_package(folder: Path, fingerprint: str, out: Path, tuning: Tuning, device: torch.device) -> None:
    """Write ``encoder.so`` and ``flows.so``, and run them once: what crashes ends this process, and not a detector.

    Args:
        folder: a checkpoint of conditional flows.
        fingerprint: of the model that is wanted.
        out: folder for them and for what the compiler leaves.
        tuning: its precision is that of the flows.
        device: where they are to run.

    Raises:
        CheckpointError: the checkpoint is damaged, or another one took its place.
        ModelSizeError: the memory there is cannot hold it.
    """
    card = read_card(folder)
    if card.fingerprint != fingerprint:
        raise CheckpointError(f"{folder}: expected the model {fingerprint[:12]}, got {card.short_fingerprint}")
    encoder, anomaly_model = load_anomaly_model(folder, card, device=device, tuning=tuning)
    assert isinstance(anomaly_model, CflowModel)
    faster = encoder.for_inference().to(device)
    images = torch.zeros(_EXAMPLE_FRAMES, *card.model.image_size_px, 3, dtype=torch.uint8, device=device)
    rows = torch.zeros(_EXAMPLE_FRAMES, dtype=torch.int64, device=device)
    frames = {0: torch.export.Dim("frames", min=2, max=_MOST_FRAMES)}
    _compile(faster, (images,), (frames,), out / ENCODER_FILE)
    encode = PackagedEncoder(card, out / ENCODER_FILE, device)
    features = [level.contiguous(memory_format=torch.channels_last) for level in encode(images)]
    _compile(_Flows(anomaly_model), (features, rows), ([frames] * len(features), frames), out / FLOWS_FILE)
    PackagedFlows(card, out / FLOWS_FILE, device).anomaly_maps(images, encode, rows).shown.cpu()  # waits for a GPU


def _compile(module: nn.Module, example: tuple[Any, ...], dynamic: tuple[Any, ...], library: Path) -> None:
    from torch import _inductor

    exported = torch.export.export(module, example, dynamic_shapes=dynamic)
    # Weights become constants, which lets convolutions lay them out anew. No cache: reading one back would unpickle.
    options = {
        "freezing": True,
        "fx_graph_cache": False,
        "aot_inductor.output_path": str(library),
        "aot_inductor.embed_kernel_binary": True,  # a GPU's kernels: the library is all that is kept
        # The C++ library that torch has loaded, also where a compiler would link one of its own into what it makes:
        # two of them in one process do not agree on what a locale holds, and loading the code crashed.
        "aot_inductor.custom_op_libs": [":libstdc++.so.6"],
    }
    if any(tensor.is_cuda for tensor in example if isinstance(tensor, Tensor)):
        # What vectors the processor has is found out by compiling and loading code for each kind: most of a minute.
        options["cpp.vec_isa_ok"] = False
    _inductor.aot_compile(exported.module(), example, options=options)  # type: ignore[arg-type]


def _end_with_compilers(*_: object) -> None:
    """End as the process that wanted the package has ended: the compilers that this one started must not go on."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main(words: Sequence[str]) -> int:
    """Build; what goes wrong is said in the last line."""
    signal.signal(signal.SIGTERM, _end_with_compilers)
    folder, fingerprint, out, precision, device, threads = words
    # It warns of a CUDA toolkit on a machine without a GPU, which is nothing to worry about.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    torch.set_num_threads(int(threads))
    try:
        build_package(Path(folder), fingerprint, Path(out), Tuning(PRECISIONS[precision]), torch.device(device))
    except CflowError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
