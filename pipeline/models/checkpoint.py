"""A trained model on disk: a folder with ``model.safetensors`` and ``model.json``, whole or not there at all.

The weights file holds the encoder too, so a checkpoint needs no model hub and its fingerprint covers every number that
a score depends on. Nothing is unpickled, ever.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.errors import CheckpointError, ConfigError
from pipeline.files import replace_folder_whole, require_writable
from pipeline.models.card import CARD_FILE, WEIGHTS_FILE, ModelCard, write_card
from pipeline.models.cflow import CFlow
from pipeline.models.encoder import Encoder, bare_encoder
from pipeline.models.float16 import as_float16_if_exact
from pipeline.models.memory import check_memory
from pipeline.models.normal_file import NORMAL_FILE
from pipeline.models.normal_store import NormalStore
from pipeline.models.read_out import SPEED_SCALES

_OS_ERROR = re.compile(r"os error (\d+)")


def check_writable(folder: Path) -> None:
    """Make sure that ``save_checkpoint`` may create or replace a folder, before hours of training.

    Raises:
        CheckpointError: it is a file, or holds anything beside a checkpoint.
        BadInputError: nothing can be written where it is to be.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a folder for the model, got a file")
    strange = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    strange = [name for name in strange if name not in {CARD_FILE, WEIGHTS_FILE, NORMAL_FILE}]
    if strange:
        raise CheckpointError(
            f"{folder}: expected a new folder or one that holds a model alone, got {strange[0]!r} in it"
        )
    require_writable(folder.parent)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be created: {error.strerror}") from error


def save_checkpoint(
    folder: Path,
    card: ModelCard,
    encoder: Encoder,
    method: CFlow | Mapping[str, Tensor],
    speed_scales: Tensor | None = None,
    normal: NormalStore | None = None,
) -> ModelCard:
    """Write a checkpoint; it appears whole under its name, replacing an older one.

    Args:
        folder: of the checkpoint.
        card: what it says of itself.
        encoder: of the model.
        method: what was fitted to the encoder's features: flows, or another method's tensors by their names.
        speed_scales: of the read-out, where it looks at motion (``pipeline.models.read_out``).
        normal: normal footage to be kept beside it.

    Returns:
        The card with its fingerprint.

    Raises:
        CheckpointError: the folder holds something else, or cannot be written.
    """
    check_writable(folder)
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.backbone.state_dict().items()}
    if isinstance(method, CFlow):
        tensors |= stored_flows(method)
    tensors = {name: as_float16_if_exact(tensor) for name, tensor in tensors.items()}
    if not isinstance(method, CFlow):
        tensors |= method
    if speed_scales is not None:
        tensors[SPEED_SCALES] = speed_scales
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with replace_folder_whole(folder) as staged:
            save_tensors(stored, staged / WEIGHTS_FILE)
            written = write_card(card, staged)
            # What commands write is their user's alone, but the user who streams need not be the one who trained.
            staged.chmod(0o755)
            for name in (WEIGHTS_FILE, CARD_FILE):
                (staged / name).chmod(0o644)
            if normal is not None:
                normal.write(staged, written.fingerprint)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return written


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file.

    Raises:
        OSError: it cannot be written.
    """
    try:
        save_file(dict(tensors), path, None if metadata is None else dict(metadata))
    except SafetensorError as error:  # its own error for a full disk, too, which tells the system's number as text
        number = _OS_ERROR.search(str(error))
        code = errno.EIO if number is None else int(number[1])
        raise OSError(code, str(error) if number is None else os.strerror(code), str(path)) from error


def read_checkpoint(folder: Path, card: ModelCard) -> tuple[Encoder, dict[str, Tensor]]:
    """Read a checkpoint of any method onto the CPU.

    Args:
        folder: as written by ``train``.
        card: its card, as ``read_card`` checked it against the weights.

    Returns:
        The encoder, and the tensors that the method made, by name.

    Raises:
        CheckpointError: it is missing or damaged.
        ModelSizeError: the memory there is cannot hold it.
    """
    try:
        encoder = bare_encoder(card.model.encoder)
    except ConfigError as error:
        raise CheckpointError(
            f"{folder / CARD_FILE}: the timm on this machine cannot build its encoder: {error}"
        ) from error
    if encoder.strides != card.model.encoder.strides:
        raise CheckpointError(
            f"{folder / CARD_FILE}: model.encoder.strides: expected {list(encoder.strides)}, as its blocks have, got "
            f"{list(card.model.encoder.strides)}"
        )
    path = folder / WEIGHTS_FILE
    try:
        check_memory(path.stat().st_size, str(path), "use another machine, or a model trained on fewer frames")
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: expected readable safetensors, got: {error}") from error
    backbone = {
        name.removeprefix("encoder."): tensor for name, tensor in tensors.items() if name.startswith("encoder.")
    }
    rest = {
        name: tensor for name, tensor in tensors.items() if not name.startswith("encoder.") and name != SPEED_SCALES
    }
    try:
        encoder.backbone.load_state_dict(backbone)
    except RuntimeError as error:
        raise unexpected_tensors(folder, error) from error
    return encoder, rest


def build_flows(folder: Path, card: ModelCard, channels: Sequence[int], tensors: Mapping[str, Tensor]) -> CFlow:
    """Flows of what ``read_checkpoint`` gave, in evaluation mode.

    Raises:
        CheckpointError: the tensors are not those that the card describes.
    """
    try:
        flows = CFlow(card.model, channels, card.scenes)
    except RuntimeError as error:  # torch's answer when there is no memory, too
        detail = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder / CARD_FILE}: the flows it describes cannot be built: {detail}") from None
    try:
        load_flows(flows, tensors)
    except RuntimeError as error:
        raise unexpected_tensors(folder, error) from error
    return flows.eval().requires_grad_(False)


def unexpected_tensors(folder: Path, error: Exception) -> CheckpointError:
    """The error of a checkpoint whose weights are not those that its card describes."""
    detail = " ".join(str(error).split())[:300]
    return CheckpointError(f"{folder / WEIGHTS_FILE}: expected the tensors that {CARD_FILE} describes, got: {detail}")


def stored_flows(flows: CFlow) -> dict[str, Tensor]:
    """Tensors of the flows and the camera embedding, by the names that a checkpoint gives them."""
    tensors = {
        f"flows.{level}.{name}": tensor
        for level in range(len(flows.flows))
        for name, tensor in flows.flow(level).stored().items()
    }
    if flows.embedding is not None:
        tensors["embedding.vectors"] = flows.embedding.vectors
    return tensors


def load_flows(flows: CFlow, tensors: Mapping[str, Tensor]) -> None:
    """Take tensors as ``stored_flows`` gave them.

    Raises:
        RuntimeError: names or shapes are not the flows'.
    """
    left = dict(tensors)
    for level in range(len(flows.flows)):
        prefix = f"flows.{level}."
        names = [name for name in left if name.startswith(prefix)]
        flows.flow(level).load_stored({name.removeprefix(prefix): left.pop(name) for name in names})
    if flows.embedding is not None:
        vectors = left.pop("embedding.vectors", None)
        flows.embedding.load_state_dict({} if vectors is None else {"vectors": vectors})
    if left:
        raise RuntimeError(f"unknown tensors {sorted(left)[:3]}")


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide numbers."""
    import importlib.metadata
    import platform

    names = ("torch", "timm", "FrEIA", "numpy", "av")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}
