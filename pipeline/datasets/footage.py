"""What footage lies below a folder: by what the decoder makes of a file, never by its ending.

Folders in folders (of days, of cameras) are gone through, and links followed. What is no footage, or cannot be used, is
passed over with a line that says why; only what systems leave beside files without being asked gets none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.datasets.base import Clip, check_identifier, probe
from pipeline.errors import DatasetError
from pipeline.video.images import is_image_name
from pipeline.video.stated import mp4_boxes

_LITTER = frozenset({".ds_store", ".directory", "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"})
# Footage that somebody deleted, and small copies that a NAS made, must not be learned from.
_SYSTEM_FOLDERS = frozenset(
    {"@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found"}
)
_UNFINISHED = frozenset(
    {
        ".part", ".partial", ".filepart", ".crdownload", ".download", ".opdownload", ".incomplete", ".tmp", ".temp",
        ".aria2", ".!qb", ".!ut", ".ytdl",
    }
)  # fmt: skip
_COPIES = frozenset({".bak", ".old", ".orig", ".lrv", ".lrf"})  # the last two are action cameras' small ones


class PassedOver(NamedTuple):
    """A file or folder that is not used.

    Attributes:
        path: which one.
        line: names it and says why.
    """

    path: Path
    line: str


@dataclass(frozen=True)
class FoundClips:
    """Clips of one part of a data set, and what lies beside them and is not used."""

    clips: tuple[Clip, ...]
    passed_over: tuple[PassedOver, ...]


@dataclass
class Footage:
    """What lies below one or several folders.

    Attributes:
        paths: files that may be videos, and folders of pictures; whether they can be decoded is not known yet.
        passed_over: what cannot be, whatever the decoder says.
    """

    paths: list[Path] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    _seen: dict[Path, Path] = field(default_factory=dict)

    def add(self, root: Path, *, pictures: bool) -> None:
        """Take in what lies in a folder and below it; nothing where it is not there.

        Args:
            root: the folder.
            pictures: whether a folder in it that holds pictures is a clip; otherwise they are passed over.

        Raises:
            DatasetError: the folder itself cannot be read.
        """
        if not root.is_dir():
            if root.is_file() or root.is_symlink():
                got = "a file" if root.is_file() else "a link to nothing"  # such as a disk that is not there now
                self.pass_over(root, f"expected a folder of footage, got {got}")
            return
        self._seen[root.resolve()] = root
        try:
            children = sorted(root.iterdir())
        except OSError as error:
            raise DatasetError(f"{root}: expected a readable folder, got: {error.strerror}") from error
        for child in children:
            self._add_entry(child, pictures=pictures)

    def sift(self, least_frames: int) -> dict[Path, int | None]:
        """Pass over what cannot be decoded; returns the others by name, with the frames that each states, or None.

        Args:
            least_frames: sound frames that each must hold; no more of it is decoded.
        """
        counts: dict[Path, int | None] = {}
        for path in sorted(self.paths, key=lambda path: (name_of(path), path)):
            try:
                counts[path] = probe(path, least_frames)
            except DatasetError as error:
                self.passed_over.append(PassedOver(path, printable(str(error))))
                continue
            if path.is_file() and (joined := sum(kind == b"moov" for kind in mp4_boxes(path))) > 1:
                self.pass_over(
                    path, f"expected one recording, got {joined} joined, of which the first alone is sure to be read"
                )
        return counts

    def pass_over(self, path: Path, why: str) -> None:
        """Note that a file or folder is not used."""
        self.passed_over.append(PassedOver(path, printable(f"{path}: {why}")))

    def _add_entry(self, path: Path, *, pictures: bool) -> None:
        if is_litter(path):
            return
        why = _unusable(path)
        if why is None:
            real = path.resolve()
            first = self._seen.setdefault(real, path)
            why = f"expected footage, got the same as {first} once more" if first != path else None
        if why is not None:
            self.pass_over(path, why)
        elif not path.is_dir():
            self.paths.append(path)
        else:
            self._add_folder(path, pictures=pictures)

    def _add_folder(self, folder: Path, *, pictures: bool) -> None:
        try:
            children = sorted(folder.iterdir())
        except OSError as error:
            self.pass_over(folder, f"expected a readable folder, got: {error.strerror}")
            return
        images = [child for child in children if is_image_name(child)]
        others = [child for child in children if not is_image_name(child) and not is_litter(child)]
        if pictures and images:
            self.paths.append(folder)
            for child in others:
                self.pass_over(child, "expected a picture, as the others in its folder, got something else")
        elif not others:
            self.pass_over(folder, f"expected footage, got {'a folder of pictures' if images else 'an empty folder'}")
        else:
            for child in sorted([*images, *others]):
                self._add_entry(child, pictures=pictures)


def _unusable(path: Path) -> str | None:
    """Why a file or folder cannot be footage whatever is in it; None where it may be."""
    try:
        got = _strange(path)
    except OSError as error:  # such as a folder above that may not be entered
        got = error.strerror
    return None if got is None else f"expected footage, got {got}"


def _strange(path: Path) -> str | None:
    """What a file or folder is that cannot be footage; None where it may be."""
    name = path.name.lower()
    if name.startswith("."):
        return "something hidden"
    if path.is_dir():
        return "a folder of the system" if name in _SYSTEM_FOLDERS else None
    if not path.is_file():
        return "a link to nothing" if path.is_symlink() else "neither a file nor a folder"
    if path.suffix.lower() in _UNFINISHED:
        return f"a file that somebody still writes ({path.suffix})"
    if path.suffix.lower() in _COPIES or name.endswith("~"):
        return "a copy of another file, by its ending"
    return "a single picture" if is_image_name(path) else None


def is_litter(path: Path) -> bool:
    """Whether it is what systems leave in any folder: ``._x``, ``.DS_Store``, ``Thumbs.db``..."""
    return path.name.startswith("._") or path.name.lower() in _LITTER


def printable(text: str) -> str:
    """A text as a line that any terminal can show: names of files may hold anything."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def training_clips(
    footage: Footage, describe: Callable[[Path], tuple[str, str]], *, least_frames: int, part: Path
) -> FoundClips:
    """The clips that can be trained on: one that cannot spoils no other.

    Args:
        footage: what was found; what cannot be used is added to what it passes over.
        describe: gives a clip's name and scene; raises ``DatasetError`` where it has none.
        least_frames: what a clip must hold; no more of it is decoded.
        part: what errors name.

    Raises:
        DatasetError: none is left.
    """
    clips: dict[str, Clip] = {}
    for path, count in footage.sift(least_frames).items():
        try:
            name, scene = describe(path)
            check_identifier("scene", scene, str(path))
        except DatasetError as error:
            footage.passed_over.append(PassedOver(path, printable(str(error))))
            continue
        clip = Clip(name, scene, str(path), count)
        if (first := clips.setdefault(name, clip)) is not clip:  # most likely the same in another container
            footage.pass_over(path, f"expected every clip name once, got {name!r} for {first.url}, too")
    if not clips and footage.passed_over:
        more = f" (and {len(footage.passed_over) - 1} more)" if len(footage.passed_over) > 1 else ""
        raise DatasetError(
            f"{part}: expected footage to train on, got none that can be used{more}: {footage.passed_over[-1].line}"
        )
    return FoundClips(tuple(clips.values()), tuple(footage.passed_over))


def footage_to_score(footage: Footage, label_file: Callable[[Path], Path | None]) -> dict[Path, int | None]:
    """What can be scored of a test part, of which nothing that is labelled may be left out.

    Args:
        footage: what was found; what cannot be used is added to what it passes over.
        label_file: where the labels of a clip are, or None where it has none.

    Returns:
        Every file and folder that can be decoded, with the frames that its header states, or None.

    Raises:
        DatasetError: one that is labelled cannot be used: numbers of fewer clips would be taken for those of all.
    """
    counts = footage.sift(1)
    names = {name_of(path) for path in counts}
    for path, line in footage.passed_over:
        if name_of(path) not in names and (labels := label_file(path)) is not None:
            raise DatasetError(f"{line}; what is labelled ({labels}) is not left out")
    return counts


def name_of(path: Path) -> str:
    """The clip's name: a folder may have a dot in it, a file has an ending."""
    try:
        return path.name if path.is_dir() else path.stem
    except OSError:  # the system does not say
        return path.stem


def name_below(path: Path, roots: Iterable[Path]) -> str:
    """A clip's name with the folders that it lies in, below whichever of some folders it lies in."""
    root = next(root for root in roots if path.is_relative_to(root))
    return printable((path.relative_to(root).parent / name_of(path)).as_posix())
