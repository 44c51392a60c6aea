import pytest

from pipeline.sinks.parquet_reader import read_clip_scores
from tests.actors.test_commands import counts_by_camera, stream
from tests.shared import shared_path

pytestmark = pytest.mark.usefixtures("ray_session")


def test_three_recordings_streamed_at_once_end_with_every_frame_scored_and_in_parquet(trained, tmp_path):
    folder = shared_path("data/cameras")
    frames = {"one-by-one-person-detection.mp4": 1394, "car-detection.mp4": 377, "highway.avi": 374}
    cameras = {name.split(".")[0]: folder / name for name in frames}
    final, _ = stream(trained, tmp_path, cameras)
    scores = read_clip_scores(tmp_path / "run" / "scores")
    for name, count in frames.items():
        camera_id = name.split(".")[0]
        counts = counts_by_camera(final)[camera_id]
        assert (counts.decoded, counts.scored, counts.dropped) == (count, count, {})
        assert scores[camera_id].index.tolist() == list(range(count))
