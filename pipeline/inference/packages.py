"""Machine code for a model, made once on a machine and kept: loaded in milliseconds, without what made it.

A package is the encoder and the flows of one checkpoint, compiled ahead of time (AOTInductor) for this processor, this
precision and this number of threads. Making one takes about half a minute and a process of its own; loading one needs
neither timm nor FrEIA nor torch's compiler, which is most of what a detector would otherwise import and hold in memory.

What is loaded is what a compiler on this machine wrote into a folder that only its user can enter
(``~/.cache/cflow-stream``): shared libraries, no pickles.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from pipeline.errors import CflowError
from pipeline.inference.tuning import Tuning, as_compiled, cache_folder
from pipeline.models.card import ModelCard
from pipeline.models.detector import Encode

ENCODER_FILE, FLOWS_FILE = "encoder.so", "flows.so"

_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("pipeline/inference", "pipeline/models")
_LIBRARIES = ("torch", "timm", "FrEIA")
_BUILT_WITHIN_S = 240.0  # before a run gives its actors up
_KEPT = 8
_ABANDONED_AFTER_S = 3600.0


class PackageError(CflowError):
    """A model could not be compiled on this machine; it runs as it stands instead."""


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
    """The flows of a package as a ``Detector``.

    Args:
        card: of the model.
        library: the compiled flows: features of all levels and rows in, maps and scores out.
        device: where they run.
    """

    def __init__(self, card: ModelCard, library: Path, device: torch.device) -> None:
        self._run = _runner(library, device)
        self._row_of = {scene: row for row, scene in enumerate(card.scenes)}
        self._embedded = bool(card.model.flow.camera_embedding)

    def scene_rows(self, scenes: Sequence[str]) -> Tensor:
        """As ``Detector.scene_rows``; the row behind the last scene's is that of scenes the model does not know."""
        rows = [self._row_of.get(scene, len(self._row_of)) if self._embedded else 0 for scene in scenes]
        return torch.tensor(rows, dtype=torch.int64)

    def judge(self, images: Tensor, encode: Encode, scene_rows: Tensor) -> tuple[Tensor, Tensor]:
        """As ``Detector.judge``."""
        # Encoders give this order, so nothing is copied.
        features = [as_compiled(level, torch.channels_last) for level in encode(images)]
        anomaly_maps, scores = self._run([*features, as_compiled(scene_rows)])
        return anomaly_maps[: len(images)], scores[: len(images)]


def load_package(folder: Path, card: ModelCard, tuning: Tuning, device: torch.device) -> tuple[Encode, PackagedFlows]:
    """A checkpoint's encoder and flows as machine code; made first where this machine has none yet.

    Args:
        folder: the checkpoint, of conditional flows.
        card: its card, as ``read_card`` checked it against the weights.
        tuning: its precision is that of the flows.
        device: where they are to run.

    Raises:
        PackageError: they could not be made or loaded.
    """
    package = _found_or_built(folder, card, tuning, device)
    try:
        return PackagedEncoder(card, package / ENCODER_FILE, device), PackagedFlows(card, package / FLOWS_FILE, device)
    except (RuntimeError, OSError) as error:
        shutil.rmtree(package, ignore_errors=True)  # the next start makes it anew
        raise PackageError(f"{package}: {_last_line(str(error))}") from error


def _runner(library: Path, device: torch.device) -> Any:
    """A function of tensors; ``Any``, because torch does not type what it gives."""
    aoti = cast(Any, torch._C)._aoti
    if device.type == "cuda":
        return aoti.AOTIModelContainerRunnerCuda(str(library), 1, str(device), str(library.parent)).run
    return aoti.AOTIModelContainerRunnerCpu(str(library), 1).run


def _found_or_built(folder: Path, card: ModelCard, tuning: Tuning, device: torch.device) -> Path:
    root = cache_folder() / "packages"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    package = root / _key(card, tuning, device)
    if not package.exists():
        with _locked(root / "lock"):  # of several detectors that start at once, one makes it
            if not package.exists():
                _forget_old(root)
                _build(folder, package, tuning, device)
    os.utime(package)
    return package


def _build(folder: Path, package: Path, tuning: Tuning, device: torch.device) -> None:
    staged = Path(tempfile.mkdtemp(prefix=".", dir=package.parent))
    work = staged / "work"  # beside the libraries a compiler leaves its sources
    precision = str(tuning.precision).removeprefix("torch.")
    words = [str(folder), str(work), precision, str(device), str(torch.get_num_threads())]
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.inference.build_package", *words],
            env={**os.environ, "PYTHONPATH": path, "TORCHINDUCTOR_CACHE_DIR": str(work)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_BUILT_WITHIN_S,
        )
        if done.returncode != 0:
            raise PackageError(_last_line(done.stderr) or f"exit code {done.returncode}")
        for name in (ENCODER_FILE, FLOWS_FILE):
            (work / name).rename(staged / name)
        shutil.rmtree(work)
        staged.rename(package)
    except subprocess.TimeoutExpired:
        raise PackageError(f"it took longer than {_BUILT_WITHIN_S:g} s") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _key(card: ModelCard, tuning: Tuning, device: torch.device) -> str:
    """A name for all that decides what the code is; another one for any difference."""
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


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process holds the file; the kernel lets go of it for a process that dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _forget_old(root: Path) -> None:
    """Keep the packages that were used last, and nothing that a killed process left half made."""
    packages = sorted(root.glob("[!.]*/"), key=lambda path: path.stat().st_mtime, reverse=True)
    stale = [path for path in root.glob(".*/") if path.stat().st_mtime < time.time() - _ABANDONED_AFTER_S]
    for path in [*packages[_KEPT - 1 :], *stale]:
        shutil.rmtree(path, ignore_errors=True)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
