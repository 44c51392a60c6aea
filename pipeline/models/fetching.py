"""Copies of a checkpoint's files: from a folder, or from an address that fsspec has a driver for."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import CheckpointError
from pipeline.models.cache import ModelCache
from pipeline.models.card import CARD_FILE, WEIGHTS_FILE, ModelCard, check_matches, read_card, read_description
from pipeline.models.normal_file import NORMAL_FILE
from pipeline.models.source import ModelSource
from pipeline.redaction import redact
from pipeline.remote_files import file_system, is_address, reason


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that was read whole and found sound.

    Attributes:
        card: what it says of itself.
        source: where it is.
        folder: with its files on this machine; of an address that of the copy in this user's cache.
    """

    card: ModelCard
    source: ModelSource
    folder: Path


def find_model(place: str | Path, config: Config) -> FoundModel:
    """Read and check a model; one from an address is copied into this user's cache, if it is not there already.

    Args:
        place: a folder or an address.
        config: where it speaks of the model, the model must agree.

    Raises:
        CheckpointError: nothing is there, it cannot be read, is damaged, or is not what the configuration says.
    """
    place = str(place)
    if is_address(place):
        with tempfile.TemporaryDirectory() as passing:
            described = _fetched_description(place, Path(passing))
        with ModelCache.of_user().held(described.fingerprint, partial(_copy_model, place)) as (folder, card):
            refresh_normal(place, folder)
            found = FoundModel(card, ModelSource.of(card, place), folder)
    else:
        card = read_card(Path(place))
        found = FoundModel(card, ModelSource.of(card, place), Path(place))
    if "model" in config.model_fields_set:
        check_matches(config.model, card, redact(place))
    return found


@contextmanager
def held_model(source: ModelSource, copy: Callable[[Path], None] | None = None) -> Iterator[tuple[Path, ModelCard]]:
    """A model's files on this machine and its card; nobody deletes a copy while the block lasts, or this process.

    Args:
        source: of the model; a folder is read where it is unless a server hands it out.
        copy: puts its files into a folder, where there is no copy in this user's cache; None reads its place.

    Raises:
        CheckpointError: it cannot be had, is damaged, or is another model than it should be.
    """
    if source.server is not None or is_address(source.place):
        with ModelCache.of_user().held(source.fingerprint, copy or copier(source)) as found:
            yield found
        return
    folder = Path(source.place)
    card = read_card(folder)
    if card.fingerprint != source.fingerprint:
        raise CheckpointError(
            f"{folder}: expected the model {source.short_fingerprint}, got {card.short_fingerprint}: the folder was "
            "changed while the run goes on"
        )
    yield folder, card


def copier(source: ModelSource) -> Callable[[Path], None]:
    """What copies a model's files out of its place into a folder.

    Args:
        source: of the model; the copies are not compared with it.
    """

    def copy(folder: Path) -> None:
        _copy_model(source.place, folder)
        refresh_normal(source.place, folder)

    return copy


def refresh_normal(place: str, folder: Path) -> None:
    """Have beside a copy of a model the normal footage that lies beside the model now: it changes, and the model not.

    Args:
        place: of the model, a folder or an address.
        folder: of the copy.

    Raises:
        CheckpointError: it cannot be had; why, in one line.
    """
    if not is_address(place) and not Path(place).is_dir():  # it is gone, and the copy is what is left
        return
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".normal.part-") as passing:
            if _copy_if_there(place, NORMAL_FILE, Path(passing)):
                Path(passing, NORMAL_FILE).replace(folder / NORMAL_FILE)
            else:
                (folder / NORMAL_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: the copy of {NORMAL_FILE}: {error.strerror or error}") from error


def _fetched_description(place: str, folder: Path) -> ModelCard:
    _copy(place, CARD_FILE, folder)
    try:
        return read_description(folder / CARD_FILE)
    except CheckpointError as error:
        raise CheckpointError(f"{redact(place)}: {_without(folder, error)}") from None


def _copy_model(place: str, folder: Path) -> None:
    for name in (CARD_FILE, WEIGHTS_FILE):
        _copy(place, name, folder)


def _copy(place: str, name: str, folder: Path) -> None:
    """Copy one of a model's files.

    Raises:
        CheckpointError: it cannot be had; why, in one line.
    """
    if not _copy_if_there(place, name, folder):
        raise CheckpointError(f"{redact(place)}: expected a model written by 'train', got no {name}")


def _copy_if_there(place: str, name: str, folder: Path) -> bool:
    """Copy a file, if there is one.

    Raises:
        CheckpointError: it cannot be had; why, in one line.
    """
    try:
        if is_address(place):
            system, path = file_system(place, CheckpointError)
            system.get_file(f"{path.rstrip('/')}/{name}", str(folder / name))
        else:
            shutil.copyfile(Path(place, name), folder / name)
    except CheckpointError:
        raise
    except FileNotFoundError:
        return False
    except Exception as error:  # every driver has errors of its own
        raise CheckpointError(f"{redact(place)}: {name} cannot be fetched: {reason(error)}") from None
    return True


def _without(folder: Path, error: Exception) -> str:
    """What an error says, without the passing folder in which a file was looked at."""
    return str(error).replace(f"{folder}/", "")
