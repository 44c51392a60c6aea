"""Small data sets in the layouts their authors publish, real to the file format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from tests.videos import SIZE_PX, write_images, write_video

FRAMES = 12


def mask(first: int, last: int, frames: int = FRAMES) -> np.ndarray:
    """Pixel masks of a clip, a box set in frames ``first`` to ``last`` (0-based, inclusive)."""
    masks = np.zeros((frames, *SIZE_PX), np.uint8)
    masks[first : last + 1, 10:20, 30:40] = 1
    return masks


def write_stc(root: Path, *, as_videos: bool = False, pixels: bool = True) -> Path:
    """Two scenes, one training clip each, and one test clip each with frames 3 to 5 anomalous."""
    for scene in ("01", "gate"):
        write_video(root / "training/videos" / f"{scene}_001.mp4", FRAMES)
        name = f"{scene}_0001"
        if as_videos:
            write_video(root / "testing/videos" / f"{name}.avi", FRAMES)
        else:
            write_images(root / "testing/frames" / name, FRAMES, suffix=".jpg", first=0)
        for folder, labels in (
            ("test_frame_mask", mask(3, 5).any(axis=(1, 2)).astype(np.int8)),
            ("test_pixel_mask", mask(3, 5)),
        ):
            if folder == "test_frame_mask" or pixels:
                (root / "testing" / folder).mkdir(exist_ok=True)
                np.save(root / "testing" / folder / f"{name}.npy", labels)
    return root


def write_ucsd(root: Path, name: str = "UCSDped2") -> Path:
    """Two training clips, two test clips (one with pixel masks), and what a Mac leaves behind; returns its folder."""
    base = root / name
    for number in (1, 2):
        write_images(base / f"Train/Train{number:03d}", FRAMES, suffix=".tif")
        write_images(base / f"Test/Test{number:03d}", FRAMES, suffix=".tif")
    folder = base / "Test/Test001_gt"
    folder.mkdir()
    for i, frame in enumerate(mask(3, 5), start=1):
        Image.fromarray(frame * 255).save(folder / f"{i:03d}.bmp")
    (base / f"Test/{name}.m").write_text(
        "TestVideoFile = {};\n"
        "% frames are counted from 1\n"
        "TestVideoFile{end+1}.gt_frame = [4:6];\n"
        "TestVideoFile{end+1}.gt_frame = [1:2, 9:12];  % two events\n"
    )
    for junk in ("Train/.DS_Store", "Train/Train001/._001.tif", "Test/._UCSDped2.m", "Test/Test001_gt/._001.bmp"):
        (base / junk).write_bytes(b"\x00\x05\x16\x07")
    return base


def write_avenue(root: Path) -> Path:
    """Two training videos, two test videos, labels beside them; returns the folder that holds both."""
    for number in (1, 2):
        write_video(root / "Avenue Dataset/training_videos" / f"{number:02d}.avi", FRAMES)
        write_video(root / "Avenue Dataset/testing_videos" / f"{number:02d}.avi", FRAMES)
        write_mat(root / "ground_truth_demo/testing_label_mask" / f"{number}_label.mat", mask(2 + number, 5))
    return root


def write_mat(path: Path, masks: np.ndarray) -> None:
    """A label file as MATLAB writes it: a row of masks in a cell array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(masks)), object)
    for i, frame in enumerate(masks):
        cells[0, i] = frame
    scipy.io.savemat(path, {"volLabel": cells}, do_compression=True)


ANOMALOUS = mask(3, 5).any(axis=(1, 2))
"""Labels of a clip's frames where ``mask(3, 5)`` is its mask."""
