import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from pipeline.baselines.spade import Spade, SpadeScene, check_gallery, gallery_bytes, nearest_squared, pooled
from pipeline.errors import ModelSizeError
from pipeline.models import memory
from tests.baselines.made import CHANNELS, SIZES, levels, repeated, settings

FRAMES = 9


def scene(count=FRAMES, seed=0, **spade):
    train = [level.half() for level in levels(count, seed)]
    model = settings(spade={"image_neighbours": 3, "pixel_neighbours": 2, "smoothing_px": 0.0, **spade})
    return SpadeScene(pooled(train), [level.flatten(2).transpose(1, 2) for level in train], model)


def as_kept(count=FRAMES, seed=0):
    return [level.half().float() for level in levels(count, seed)]


@pytest.mark.parametrize(("count", "offset"), [(1, 0.0), (3, 100.0), (40, 0.0)])
def test_nearest_distances_are_scikit_learns(count, offset):
    generator = torch.Generator().manual_seed(1)
    queries, gallery = (torch.randn(size, 17, generator=generator) + offset for size in (31, 23))
    expected = NearestNeighbors(n_neighbors=min(count, 23), algorithm="brute").fit(gallery.double().numpy())
    distances, _ = expected.kneighbors(queries.double().numpy())
    np.testing.assert_allclose(nearest_squared(queries, gallery, count).sqrt().numpy(), distances, rtol=1e-4)


def test_frames_and_distances_are_scikit_learns():
    spade, test = scene(), levels(4, seed=5)
    distances, frames = spade.neighbours(test)
    of_train, of_test = (pooled(part).double().numpy() for part in (as_kept(), test))
    expected, numbers = NearestNeighbors(n_neighbors=3).fit(of_train).kneighbors(of_test)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-5)
    assert frames.tolist() == numbers.tolist()


def test_maps_are_scikit_learns_over_the_positions_of_the_nearest_frames():
    spade, test = scene(), levels(2, seed=5)
    found = spade.maps_of_features(test)
    _, frames = spade.neighbours(test)
    gallery, asked = repeated(as_kept()), repeated(test)
    for frame in range(2):
        vectors = gallery[frames[frame]].flatten(2).transpose(1, 2).flatten(0, 1).numpy()
        expected, _ = NearestNeighbors(n_neighbors=2).fit(vectors).kneighbors(asked[frame].flatten(1).T.numpy())
        np.testing.assert_allclose(found.shown[frame].flatten().numpy(), expected.mean(axis=1), rtol=1e-4)
    torch.testing.assert_close(found.scored, spade.neighbours(test)[0].mean(dim=1).view(2, 1, 1))


def test_more_neighbours_than_frames_are_all_frames():
    spade = scene(count=2, image_neighbours=50, pixel_neighbours=100)
    assert spade.neighbours(levels(3))[0].shape == (3, 2)
    assert torch.isfinite(spade.maps_of_features(levels(1)).shown).all()


def test_a_training_frame_is_its_own_neighbour():
    spade = scene(image_neighbours=1, pixel_neighbours=1)
    maps = spade.maps_of_features(as_kept())
    torch.testing.assert_close(maps.scored, torch.zeros(FRAMES, 1, 1), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(maps.shown, torch.zeros(FRAMES, *SIZES[0]), atol=2e-2, rtol=0.0)


def test_a_score_does_not_depend_on_the_frames_beside_it():
    spade, test = scene(smoothing_px=4.0), levels(4, seed=2)
    maps = spade.maps_of_features(test)
    for frame in range(4):
        alone = spade.maps_of_features([part[frame : frame + 1] for part in test])
        torch.testing.assert_close(alone.scored[0], maps.scored[frame])
        torch.testing.assert_close(alone.shown[0], maps.shown[frame])


def test_what_was_stored_gives_the_same_maps():
    model = settings(spade={"image_neighbours": 3, "pixel_neighbours": 2, "smoothing_px": 0.0})
    scenes = Spade(["a", "b"], [scene(), scene(4, seed=9)], 0.005)  # scenes of different lengths
    again = Spade.build(model, CHANNELS, ["a", "b"], scenes.state_dict())
    rows = scenes.scene_rows(["b", "a", "c"])
    one, other = (of.maps_of_features(levels(3), rows) for of in (scenes, again))
    assert torch.equal(one.shown, other.shown)
    assert torch.equal(one.scored, other.scored)


@pytest.mark.parametrize("fault", ["pooled", "level_1", "none"])
def test_tensors_that_do_not_fit_the_settings_are_refused(fault):
    tensors = Spade(["a"], [scene()], 0.005).state_dict()
    tensors["models.0.pooled" if fault == "none" else f"models.0.{fault}"] = torch.zeros(0 if fault == "none" else 3)
    with pytest.raises(RuntimeError, match="pooled" if fault == "none" else fault):
        Spade.build(settings(), CHANNELS, ["a"], tensors)


def test_a_gallery_takes_what_is_foretold():
    spade = scene()
    taken = sum(buffer.numel() * buffer.element_size() for buffer in spade.buffers())
    assert gallery_bytes(FRAMES, SIZES, CHANNELS) == taken


def test_a_gallery_over_its_limit_is_refused_in_one_line():
    model = settings(spade={"gallery_gib": 1e-6})
    with pytest.raises(
        ModelSizeError, match=r"gallery_gib: expected .* 1e-06 GiB, got .* 2,550 training frames"
    ) as caught:
        check_gallery(2550, model, CHANNELS)
    assert "\n" not in str(caught.value)


def test_a_gallery_larger_than_the_memory_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(ModelSizeError, match=r"a gallery of 2,550 training frames: .* training.frame_step"):
        check_gallery(2550, settings(), CHANNELS)
