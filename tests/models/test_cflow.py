import pytest
import torch

from pipeline.models import cflow
from tests.models.tiny import SIZE_PX, tiny_model


def features(flows, level, count, seed=0):
    height, width = flows.sizes[level]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, flows.flow(level).dims, height, width, generator=generator)


def test_levels_have_the_sizes_that_strides_and_image_give():
    _, _, flows = tiny_model()
    assert flows.sizes == tuple((SIZE_PX[0] // stride, SIZE_PX[1] // stride) for stride in (8, 16, 32))


@pytest.mark.parametrize("embedding", [0, 4])
def test_a_map_holds_every_positions_own_log_likelihood(embedding):
    _, _, flows = tiny_model(camera_embedding=embedding)
    maps = features(flows, 1, 3)
    rows = flows.scene_rows(["gate", "yard", "unknown"])
    got = flows.log_likelihood_map(1, maps, rows)
    height, width = flows.sizes[1]
    for frame in range(3):
        for y, x in [(0, 0), (height - 1, 1), (2, width - 1)]:
            one = flows.log_likelihood(
                1, maps[frame : frame + 1, :, y, x], torch.tensor([y * width + x]), rows[[frame]]
            )
            torch.testing.assert_close(got[frame, y, x], one[0], rtol=1e-5, atol=1e-5)


def test_a_wide_batch_done_in_parts_gives_the_same(monkeypatch):
    _, _, flows = tiny_model(camera_embedding=4)
    maps, rows = features(flows, 0, 7), flows.scene_rows(["gate", "yard"] * 3 + ["gate"])
    whole = flows.log_likelihood_map(0, maps, rows)
    calls = []
    real = flows.log_likelihood
    monkeypatch.setattr(flows, "log_likelihood", lambda *given: calls.append(len(given[1])) or real(*given))
    monkeypatch.setattr(cflow, "_MAX_VALUES", 2 * maps[0, 0].numel() * 64)
    torch.testing.assert_close(flows.log_likelihood_map(0, maps, rows), whole, rtol=1e-5, atol=1e-5)
    assert len(calls) > 1
    assert max(calls) <= 2 * maps[0, 0].numel()


def test_scenes_differ_with_an_embedding_and_not_without():
    for embedding, differs in ((4, True), (0, False)):
        _, _, flows = tiny_model(camera_embedding=embedding)
        with torch.no_grad():
            for parameter in flows.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1)
        maps = features(flows, 0, 1).repeat(2, 1, 1, 1)
        first, second = flows.log_likelihood_map(0, maps, flows.scene_rows(["gate", "yard"]))
        assert torch.allclose(first, second, atol=1e-4) is not differs


def test_every_scene_and_level_learns():
    _, _, flows = tiny_model(camera_embedding=4)
    flows.train()
    for level in range(3):
        maps = features(flows, level, 2)
        flows.log_likelihood_map(level, maps, flows.scene_rows(["gate", "yard"])).mean().backward()
    for name, parameter in flows.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
