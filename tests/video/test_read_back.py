"""Whether a segment can be read back is told from what the system does not let anybody read."""

import errno
import os

import av.error
import pytest

import pipeline.video.read_back as read_back_module
from pipeline.errors import RunError
from pipeline.video.opening import open_file
from pipeline.video.read_back import copy_readable, is_readable
from tests.video.failing_system import cannot_open_files, failing_disk
from tests.videos import write_video


def test_what_the_system_does_not_let_be_opened_is_not_unreadable(tmp_path):
    path = write_video(tmp_path / "a.mkv", 5)
    with cannot_open_files(), pytest.raises(OSError, match="Too many open files"):
        is_readable(path)
    with cannot_open_files(), pytest.raises(OSError, match="Too many open files"):
        copy_readable(path, tmp_path / "copy.mkv")
    assert is_readable(path)
    assert copy_readable(path, tmp_path / "copy.mkv") == 5


def test_what_the_disk_does_not_let_be_read_is_not_unreadable(tmp_path):
    path = failing_disk(tmp_path / "a.mkv")
    with pytest.raises(RunError, match=r"a\.mkv: cannot be read back: Input/output error"):
        is_readable(path)
    with pytest.raises(OSError, match="Input/output error"):
        copy_readable(path, tmp_path / "copy.mkv")


def test_what_fails_in_the_middle_of_reading_is_not_unreadable(tmp_path, monkeypatch):
    """No file goes stale on demand, so what opens it does."""

    class Stale:
        def __init__(self, container):
            self._container = container

        def __getattr__(self, name):
            return getattr(self._container, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._container.close()

        def demux(self, *streams):
            raise av.error.OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(read_back_module, "open_file", lambda path, label: Stale(open_file(path, label)))
    path = write_video(tmp_path / "a.mkv", 5)
    with pytest.raises(OSError, match="Stale file handle"):
        is_readable(path)
    with pytest.raises(OSError, match="Stale file handle"):
        copy_readable(path, tmp_path / "copy.mkv")


def test_a_segment_cut_off_anywhere_is_readable_or_not_but_never_blamed_on_the_system(tmp_path):
    """FFmpeg calls some of them an input/output error, as it does those that the disk cannot read."""
    whole, cut = write_video(tmp_path / "a.mkv", 5).read_bytes(), tmp_path / "cut.mkv"
    readable = []
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        readable.append(is_readable(cut))
        assert bool(copy_readable(cut, tmp_path / "copy.mkv")) == readable[-1]
    assert not any(readable[:400])
    assert all(readable[-100:])
