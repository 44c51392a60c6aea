"""A file is scored whole and once, whatever dies meanwhile."""

from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.sinks.redis_reader import read_scores
from tests.faults.live import LiveRun, kill_actors, live_config
from tests.videos import write_video

FRAMES = 3000


def test_every_frame_of_a_file_is_scored_once_though_each_actor_is_killed_on_the_way(
    ray_session, trained, redis_url, tmp_path
):
    write_video(tmp_path / "clip.mp4", FRAMES)
    config = live_config({"clip": str(tmp_path / "clip.mp4")}, tmp_path / "run", redis_url)
    cameras = tuple(camera.model_copy(update={"sample_fps": None}) for camera in config.cameras)
    live = LiveRun(config.model_copy(update={"cameras": cameras}), trained.folder)

    def scored():
        return sum(camera.counts.scored for camera in live.status.cameras)

    live.wait(lambda: scored() > 0, "it scores", 120.0)
    for kind in ("CameraActor", "ScorerActor", "DetectorActor", "CameraActor"):
        before = scored()
        assert before < FRAMES - 200, "the file is too short for this test"
        assert kill_actors(kind)
        live.wait(lambda before=before: scored() > before + 50, f"it goes on after the death of {kind}", 120.0)
    live.wait(lambda: live.status.done, "the file ends", 120.0)
    final = live.end()
    counts = final.cameras[0].counts
    assert (counts.decoded, counts.scored, counts.dropped) == (FRAMES, FRAMES, {})
    assert read_clip_scores(tmp_path / "run" / "scores")["clip"].index.tolist() == list(range(FRAMES))
    entries = [entry["index"] for entry in read_scores(redis_url, "clip", count=2 * FRAMES)]
    assert entries == sorted(set(entries))
