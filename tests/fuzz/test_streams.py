"""Whatever bytes a video file holds: frames or VideoError; the process lives and comes back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import check_video, seeds, write_base_videos
from tests.fuzz.video_worker import video_worker


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def bases(folder):
    return write_base_videos(folder)


@pytest.fixture(scope="module")
def worker():
    with video_worker() as worker:
        yield worker


def test_sound_videos_of_every_kind_give_frames(worker, bases):
    before = worker.outcomes.get("frames", 0)
    for path in bases:
        worker.read(path)
    assert worker.outcomes["frames"] - before == len(bases)


@settings(max_examples=2000)
@given(which=st.integers(0, 11), seed=seeds)
def test_damaged_videos_give_frames_or_are_refused(worker, bases, folder, which, seed):
    check_video(worker, bases, which, seed, folder)


@settings(max_examples=40)
@given(content=st.binary(min_size=1, max_size=300), suffix=st.sampled_from([".mp4", ".ts", ".h264", ".mkv"]))
def test_noise_is_refused_or_gives_frames(worker, folder, content, suffix):
    path = folder / f"noise{suffix}"
    path.write_bytes(content)
    worker.read(path)
