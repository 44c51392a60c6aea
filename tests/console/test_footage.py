"""What the commands say of footage that they do not use: a line before anything runs, and a count at the end."""

import io

import pytest
from rich.console import Console

from pipeline.console.footage import open_footage, passed_over_count
from pipeline.console.training import train_with_bars
from pipeline.datasets.base import Clip, Dataset
from pipeline.errors import DatasetError
from tests.models.tiny import SIZE_PX
from tests.training.footage import make_config, moving_square
from tests.videos import write_video


@pytest.fixture
def out():
    return Console(file=io.StringIO(), width=100_000)


@pytest.fixture
def err():
    return Console(file=io.StringIO(), width=100_000)


def write_clips(root, lengths):
    videos = root / "training/videos"
    for number, length in enumerate(lengths, start=1):
        write_video(videos / f"gate_{number:03d}.mp4", moving_square(length, seed=number), size_px=SIZE_PX, fps=10)
    return videos


def test_a_training_names_what_it_passes_over_before_it_begins_and_counts_it_at_the_end(tmp_path, out, err):
    videos = write_clips(tmp_path, (8, 8, 8, 8, 1))
    dataset = open_footage(tmp_path, need="train", err=err)
    line = f"{videos / 'gate_005.mp4'}: expected 2 frames or more that can be decoded, got 1"
    assert err.file.getvalue() == f"passed over: {line}\n"
    (videos / "gate_004.mp4").unlink()  # while it trains, as it were
    card = train_with_bars(make_config(epochs=1), dataset, tmp_path / "model", out=out, err=err)
    assert card.provenance.train_frames + card.provenance.holdout_frames == 24
    last = out.file.getvalue().splitlines()[-1]
    assert last.startswith(f"trained on 3 clips; passed over 2: {line}; gate_004 (")
    assert "got nothing there" in last


def test_a_training_whose_clips_have_all_gone_is_refused_in_one_line(tmp_path, out, err):
    dataset = Dataset("stc", tmp_path, (Clip("gate_001", "gate", str(tmp_path / "gate_001.mp4"), 9),), ())
    with pytest.raises(DatasetError, match="expected training clips, got none of 1 that can be read"):
        train_with_bars(make_config(epochs=1), dataset, tmp_path / "model", out=out, err=err)


def test_a_step_over_frames_asks_for_longer_clips(tmp_path, err):
    write_clips(tmp_path, (8, 3))
    assert len(open_footage(tmp_path, need="train", err=err, frame_step=2).train) == 2
    assert len(open_footage(tmp_path, need="train", err=err, frame_step=3).train) == 1


def test_of_thousands_of_thumbnails_some_are_named_and_the_others_counted(tmp_path, err):
    videos = write_clips(tmp_path, (3,))
    for number in range(60):
        (videos / f"gate_001-{number:02d}.jpg").touch()
    dataset = open_footage(tmp_path, need="train", err=err)
    lines = err.file.getvalue().splitlines()
    assert (len(lines), lines[-1]) == (51, "passed over: 10 more")
    assert passed_over_count(dataset.passed_over).startswith("passed over 60: ")
    assert passed_over_count(dataset.passed_over).endswith(
        "gate_001-02.jpg: expected footage, got a single picture; and 57 more"
    )
    assert passed_over_count([]) == ""
