import pytest

from pipeline.errors import VideoError
from pipeline.evaluation.benchmark_stages import measure, measure_decode
from pipeline.models.card import read_card
from tests.videos import audio_only, write_video


@pytest.mark.server
def test_every_stage_is_measured_on_a_rendered_clip(trained):
    runtime = trained.config.runtime.model_copy(update={"batch_frames": 3})
    costs = measure(
        trained.folder, read_card(trained.folder), video=None, video_size_px=(64, 96), device="cpu", runtime=runtime,
        maps=True, seconds=0.05,
    )  # fmt: skip
    assert [batch.frames for batch in costs.inference] == [1, 2, 3]
    assert costs.best_batch in costs.inference
    assert min(costs.decode_cpu_s, costs.sinks_cpu_s, *(b.wall_s for b in costs.inference)) > 0.0
    assert costs.device == "cpu"
    assert costs.cores >= 1


def test_a_short_video_is_read_again_and_gives_frames_of_the_models_size(tmp_path):
    spent_s, frames = measure_decode(write_video(tmp_path / "a.mp4", 5), (32, 64), 0.1, 0.2)
    assert spent_s > 0.0
    assert {frame.image.shape for frame in frames} == {(32, 64, 3)}
    assert [frame.previous is not None for frame in frames[:6]] == [False, True, True, True, True, False]


def test_a_video_without_pictures_and_a_live_stream_are_refused(tmp_path):
    with pytest.raises(VideoError):
        measure_decode(audio_only(tmp_path / "sound.mp4"), (32, 64), 0.1, 0.1)
    with pytest.raises(VideoError, match="live stream"):
        measure_decode("rtsp://127.0.0.1:9/main", (32, 64), 0.1, 0.1)
