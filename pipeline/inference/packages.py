"""Machine code for a model, made once on a machine and kept: loaded in milliseconds, without what made it.

A package is the encoder and the flows of one checkpoint, compiled ahead of time (AOTInductor) for this processor, this
precision and this number of threads. Making one takes about 40 s on two cores and a process of its own; loading one
needs neither timm nor FrEIA nor torch's compiler, which is most of what a detector would otherwise import and hold.

What is loaded is what a compiler on this machine wrote into a folder that nobody but its user can write into
(``~/.cache/cflow-stream``): shared libraries, no pickles.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from pipeline.child import run_child
from pipeline.errors import PackageError
from pipeline.inference.package_store import PackageStore
from pipeline.inference.tuning import Tuning, as_compiled
from pipeline.models.anomaly_model import AnomalyMaps, Encode, rows_of
from pipeline.models.card import ModelCard
from pipeline.private_folder import cache_folder

_LOGGER = logging.getLogger(__name__)

ENCODER_FILE, FLOWS_FILE = "encoder.so", "flows.so"

_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("pipeline/inference", "pipeline/models")
_LIBRARIES = ("torch", "timm", "FrEIA")


class PackagedEncoder:
    """The encoder of a package as an ``Encode``.

    Args:
        card: of the model.
        library: the compiled encoder: images in, features of all levels out.
        device: where it runs.
    """

    def __init__(self, card: ModelCard, library: Path, device: torch.device) -> None:
        self._run = _runner(library, device)
        self._image_shape = (*card.model.image_size_px, 3)

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """As ``Encode``.

        Raises:
            ValueError: the images do not have the model's size.
        """
        if images.shape[1:] != self._image_shape or images.dtype != torch.uint8:
            shape = ", ".join(map(str, self._image_shape))
            raise ValueError(
                f"images: expected uint8 images of shape (B, {shape}), got {images.dtype} {tuple(images.shape)}"
            )
        return [level[: len(images)] for level in self._run([as_compiled(images)])]


class PackagedFlows:
    """The flows of a package as an ``AnomalyModel``.

    Args:
        card: of the model.
        library: the compiled flows: features of all levels and rows in, maps out.
        device: where they run.
    """

    def __init__(self, card: ModelCard, library: Path, device: torch.device) -> None:
        self._run = _runner(library, device)
        embedded = card.scenes if card.model.flow.camera_embedding else ()
        self._row_of = {scene: row for row, scene in enumerate(embedded)}

    def scene_rows(self, scenes: Sequence[str]) -> Tensor:
        """As ``AnomalyModel.scene_rows``."""
        return rows_of(scenes, self._row_of)

    def anomaly_maps(self, images: Tensor, encode: Encode, scene_rows: Tensor) -> AnomalyMaps:
        """As ``AnomalyModel.anomaly_maps``."""
        # Encoders give this order, so nothing is copied.
        features = [as_compiled(level, torch.channels_last) for level in encode(images)]
        found = self._run([*features, as_compiled(scene_rows)])
        # One where scores are read off the map that is shown, else two.
        return AnomalyMaps(found[0], found[-1]).changed(lambda values: values[: len(images)])


def load_package(
    folder: Path, card: ModelCard, tuning: Tuning, device: torch.device
) -> tuple[PackagedEncoder, PackagedFlows]:
    """A checkpoint's encoder and flows as machine code; made first where this machine has none yet.

    Args:
        folder: the checkpoint, of conditional flows.
        card: its card, as ``read_card`` checked it against the weights.
        tuning: its precision is that of the flows.
        device: where they are to run.

    Raises:
        PackageError: they could not be made, or have no memory to be loaded into.
    """
    key = package_key(card, tuning, device)
    try:
        store = PackageStore(cache_folder("packages"))
        loaded = _loaded(store, key, card, device)
        if loaded is None:
            store.make(key, (ENCODER_FILE, FLOWS_FILE), partial(compile_package, folder, card, tuning, device))
            loaded = _loaded(store, key, card, device)
    except (RuntimeError, OSError) as error:
        raise PackageError(_last_line(str(error))) from error
    if loaded is None:
        why = "this machine cannot load what its compiler made"
        store.note_failure(key, why)
        raise PackageError(why)
    return loaded


def _loaded(
    store: PackageStore, key: str, card: ModelCard, device: torch.device
) -> tuple[PackagedEncoder, PackagedFlows] | None:
    """A package's encoder and flows; None where there is none, or only one that was damaged, which is deleted.

    Raises:
        RuntimeError: torch has no memory for it, or whatever else it has against it.
        OSError: the folder of packages cannot be used.
    """
    with store.held(key) as package:
        if package is None:
            return None
        encoder, flows = package / ENCODER_FILE, package / FLOWS_FILE
        damage = _damage(encoder) or _damage(flows)
        if not damage:
            return PackagedEncoder(card, encoder, device), PackagedFlows(card, flows, device)
    _LOGGER.warning("%s: the compiled model is damaged and is made anew: %s", package, damage)
    store.forget(key)
    return None


def _damage(library: Path) -> str:
    """Why the dynamic linker cannot load a library; torch has one error for that and for any other trouble."""
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error)
    return ""


def _runner(library: Path, device: torch.device) -> Any:
    """A function of tensors; ``Any``, because torch does not type what it gives."""
    aoti = cast(Any, torch._C)._aoti
    if device.type == "cuda":
        return aoti.AOTIModelContainerRunnerCuda(str(library), 1, str(device), str(library.parent)).run
    return aoti.AOTIModelContainerRunnerCpu(str(library), 1).run


def compile_package(
    folder: Path, card: ModelCard, tuning: Tuning, device: torch.device, out: Path, within_s: float
) -> None:
    """Have a process of its own write a package's files; it ends with this one.

    Args:
        folder: the checkpoint.
        card: the model that is expected there.
        tuning: its precision is that of the flows.
        device: what the code is to run on.
        out: where the files go, beside whatever the compiler leaves.
        within_s: how long it may take.

    Raises:
        PackageError: it failed, took too long, or the folder holds another model.
    """
    precision = str(tuning.precision).removeprefix("torch.")
    out = out.absolute()
    words = [str(folder.absolute()), card.fingerprint, str(out), precision, str(device), str(torch.get_num_threads())]
    try:
        done = run_child(
            [sys.executable, "-m", "pipeline.inference.build_package", *words],
            env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(out)},
            within_s=within_s,
            folder=_ROOT,  # the project is imported from there, whatever lies in the working folder
        )
    except subprocess.TimeoutExpired:
        raise PackageError(f"it took longer than {within_s:.0f} s") from None
    if done.returncode < 0:
        raise PackageError(f"{signal.Signals(-done.returncode).name} ended it, or what it had made")
    if done.returncode > 0:
        raise PackageError(_last_line(done.stderr) or f"exit code {done.returncode}")


def package_key(card: ModelCard, tuning: Tuning, device: torch.device) -> str:
    """A name for all that decides what the code is; another one for any difference.

    Args:
        card: of the model.
        tuning: its precision is that of the flows.
        device: what the code is to run on.
    """
    facts = {
        "model": card.fingerprint,
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "sources": _digest_of_sources(),
        "precision": str(tuning.precision),
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),  # compiled in
        "processor": _processor(),  # home folders are shared between machines
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for source in _SOURCES:
        for path in sorted((_ROOT / source).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _processor() -> str:
    """What instructions this processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
