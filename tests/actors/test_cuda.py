"""Detectors on a GPU of a real Ray: every frame is scored once, and as on the CPU."""

import numpy as np
import pytest

from tests.actors.test_commands import counts_by_camera, replay, stream
from tests.gpu import needs_gpu
from tests.models_for_tests import TINY

pytestmark = [needs_gpu, pytest.mark.usefixtures("ray_session")]

ON_GPU, ON_CPU = ({**TINY["runtime"], "device": device} for device in ("cuda", "cpu"))


def test_a_clip_replayed_on_a_gpu_scores_as_on_the_cpu(trained, tmp_path):
    on_gpu = replay(trained, tmp_path / "gpu", runtime=ON_GPU)
    on_cpu = replay(trained, tmp_path / "cpu", runtime=ON_CPU)
    assert on_gpu.keys() == on_cpu.keys()
    for name, scores in on_gpu.items():
        assert scores.index.tolist() == on_cpu[name].index.tolist()
        np.testing.assert_allclose(scores.anomaly_score, on_cpu[name].anomaly_score, rtol=2e-2)


def test_two_detectors_that_share_a_gpu_score_every_frame_once(trained, tmp_path):
    """One works, the other is the spare one of live cameras and keeps its weights there."""
    cameras = {clip.name: clip.url for clip in trained.dataset.test}
    final, _ = stream(trained, tmp_path, cameras, runtime={**ON_GPU, "spare_detectors": 1})
    for clip in trained.dataset.test:
        counts = counts_by_camera(final)[clip.name]
        assert (counts.decoded, counts.scored, counts.dropped) == (clip.frame_count, clip.frame_count, {})
