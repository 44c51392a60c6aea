import json

import pytest

from benchmarks.cost_figure import ENCODERS, costs, draw, flow_weights, flows_mb
from benchmarks.machine import RESULTS
from pipeline.model_settings import FlowSettings
from pipeline.models.flow import Flow

FOUND = costs(json.loads(max(RESULTS.glob("comparison-ped2-*.json")).read_text()))


def test_a_frames_time_is_that_of_the_encoder_and_of_what_follows():
    by_method = {cost.method: cost for cost in FOUND}
    cflow = by_method["cflow"]
    assert 1e3 / (cflow.encoder_ms + cflow.post_ms) == pytest.approx(36.7, abs=0.05)
    # DifferNet's looks at the frame in three sizes; the others' is the same, as near as a machine is quiet.
    alike = [by_method[name].encoder_ms for name in ("cflow", "padim", "spade")]
    assert max(alike) < 1.05 * min(alike) < by_method["differnet"].encoder_ms


@pytest.mark.parametrize("condition_dims", [0, 128])
@pytest.mark.parametrize("channels", [31, 32, 96])
def test_a_flows_weights_are_counted_as_it_keeps_them(channels, condition_dims):
    kept = Flow(channels, condition_dims, FlowSettings()).stored()
    assert flow_weights(channels, condition_dims) == sum(part.numel() for part in kept.values() if _is_matrix(part))


def _is_matrix(part):
    return part.ndim == 2 and min(part.shape) > 1  # rows of scales and offsets are no matrices


def test_the_flows_of_a_comparison_are_as_large_as_their_weights_say():
    (cflow,) = (cost for cost in FOUND if cost.method == "cflow")
    assert flows_mb(ENCODERS["MobileNetV2"], 128) == pytest.approx(cflow.model_mb, rel=0.05)


def test_the_picture_is_drawn(tmp_path):
    draw(FOUND, tmp_path / "costs.png")
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")
