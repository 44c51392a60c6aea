"""Recorders at work on real servers, and what is on disk afterwards."""

import contextlib
import itertools
import threading
from pathlib import Path

from pipeline.camera_settings import CameraSettings
from pipeline.datasets.detect import open_dataset
from pipeline.errors import RunError
from pipeline.video.opening import open_file
from pipeline.video.record import CameraRecorder, record_cameras
from pipeline.video.recordings import RecordingFolder
from pipeline.video.source import open_source
from tests.video.station import until
from tests.videos import frame_number

ROOT = Path(__file__).parents[2]
HOUR_S = 3600.0


def camera(url, camera_id="gate", **settings):
    limits = {"open_timeout_s": 1.0, "read_timeout_s": 0.5, "reconnect_max_s": 0.3, **settings}
    return CameraSettings.model_validate({"id": camera_id, "url": url, **limits})


@contextlib.contextmanager
def recording(out, *cameras, segment_s=HOUR_S):
    """Recorders at work; ended in good order at the end, like by Ctrl-C."""
    stop, failures = threading.Event(), []
    with RecordingFolder(out) as folder:
        folder.salvage()
        recorders = [CameraRecorder(settings, folder, segment_s) for settings in cameras]

        def run():
            try:
                record_cameras(recorders, duration_s=None, stop=stop)
            except RunError as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield recorders
        finally:
            stop.set()
            thread.join(20.0)
            assert not thread.is_alive()
        if failures:
            raise failures[0]


def recorded_s(recorder, seconds):
    until(lambda: recorder.status().recorded_s >= seconds, f"{seconds} s are recorded")


def clips(out):
    """Frame numbers and times of every segment, by clip name, read the way training reads them."""
    found = {}
    for clip in open_dataset(out, need="train").train:
        with open_source(clip.url, (64, 96)) as source:
            frames = list(source)
        assert (source.corrupt, source.decode_errors) == (0, 0)
        times = [frame.pts * frame.time_base for frame in frames]
        assert times[0] == 0
        assert all(earlier < later for earlier, later in itertools.pairwise(times))
        found[clip.name] = [frame_number(frame.image) for frame in frames]
    return found


def is_in_a_row(numbers, of):
    """Whether frames follow each other, in footage of ``of`` frames that is shown over and over."""
    return all((earlier + 1) % of == later for earlier, later in itertools.pairwise(numbers))


def slices(path):
    """Coded slices of every packet, as the encoder made them: what containers wrap in other ways is left out."""
    found = []
    with open_file(path, path.name) as container:
        for packet in container.demux(video=0):
            data, at = bytes(packet), 0
            while at < len(data):
                length = int.from_bytes(data[at : at + 4])
                if data[at + 4] & 0x1F in {1, 5}:
                    found.append(data[at + 4 : at + 4 + length])
                at += 4 + length
    return found


def videos(out):
    return sorted((out / "training" / "videos").iterdir())


def staged(out):
    return list((out / ".recording").glob("*/*"))
