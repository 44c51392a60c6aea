"""Training on a GPU: every method's model scores on the CPU, and on a GPU, as the other does."""

import numpy as np
import pytest

from pipeline.inference.engine import Engine
from pipeline.methods import CHOICES
from pipeline.training.train import train
from tests.gpu import needs_gpu
from tests.training.test_methods import config_of, dataset, frames

pytestmark = needs_gpu

__all__ = ["dataset"]  # a fixture


@pytest.mark.parametrize("method", CHOICES)
def test_a_model_that_was_trained_on_a_gpu_scores_alike_on_the_cpu_and_on_a_gpu(method, dataset, tmp_path):
    config = config_of(method)
    runtime = config.runtime.model_copy(update={"device": "cuda"})
    card = train(config.model_copy(update={"runtime": runtime}), dataset, tmp_path / "m")
    assert card.provenance.completed
    found = [
        Engine.load(tmp_path / "m", device=device).predict(frames(dataset, 0, 0), ["gate"] * 7)
        for device in ("cpu", "cuda")
    ]
    for one, other in zip(*found, strict=True):
        assert one.anomaly_score == pytest.approx(other.anomaly_score, rel=2e-2, abs=1e-2)  # 0 is what is usual
        np.testing.assert_allclose(one.anomaly_map.astype(float), other.anomaly_map.astype(float), rtol=3e-2, atol=3e-2)
