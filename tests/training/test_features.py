import logging
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch

from pipeline.config import PhotometricSettings, TrainingSettings
from pipeline.datasets.base import Clip
from pipeline.errors import DatasetError, RunError
from pipeline.models.encoder import build_encoder
from pipeline.models.motion import speed_maps
from pipeline.models.pairs import Pairs
from pipeline.training.augmentation import vary_pair
from pipeline.training.features import FeatureSpec, extract_features, pyramid_spec
from pipeline.training.scene_references import SceneSampler
from pipeline.training.state import features_key
from pipeline.types import Frame, FrameBatch
from pipeline.video.source import open_source
from tests.datasets.odd_files import write_spaced
from tests.models.tiny import ENCODER, SIZE_PX, tiny_settings
from tests.training.footage import make_dataset
from tests.videos import truncate, write_images, write_video

AS_IT_IS, VARIED = PhotometricSettings(), PhotometricSettings(variants=2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("footage"), {"gate": (9, 17), "yard": (3,)})


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(ENCODER)


def extract(
    clips, encoder, folder, frame_step=1, progress=lambda done, total: None, passed_over=None, augmentation=AS_IT_IS
):
    found = extract_features(
        clips,
        pyramid_spec(tiny_settings(), encoder),
        SIZE_PX,
        gap_s=0.1,
        training=TrainingSettings(frame_step=frame_step, augmentation=augmentation),
        folder=folder,
        progress=progress,
        passed_over=[].append if passed_over is None else passed_over.append,
    )
    return list(found.values())


def test_features_are_those_of_the_decoded_frames_in_their_order(dataset, encoder, tmp_path):
    found = extract(dataset.train, encoder, tmp_path)
    assert [len(clip) for clip in found] == [9, 17, 3]
    with open_source(dataset.train[1].url, SIZE_PX) as source:
        images = np.stack([frame.image for frame in source])
    for level, expected in enumerate(encoder(torch.from_numpy(images))):
        vectors = expected.permute(0, 2, 3, 1).flatten(1, 2)
        got = torch.from_numpy(np.array(found[1].levels[level])).float()
        torch.testing.assert_close(got, vectors, rtol=2e-3, atol=2e-3)


def test_pairs_are_those_that_a_reader_hands_over_whatever_the_frame_step(dataset, tmp_path):
    clip = dataset.train[1]
    spec = FeatureSpec(("nothing",), ((1, 1),), lambda images: [np.zeros((len(images), 1, 1), np.float16)])
    with open_source(clip.url, SIZE_PX, gap_s=0.1) as source:
        frames = [Frame(None, frame.image, frame.previous) for frame in source]
    for step in (1, 3):
        (found,) = extract_features(
            [clip], spec, SIZE_PX, gap_s=0.1, training=TrainingSettings(frame_step=step), folder=tmp_path / str(step),
            progress=lambda done, total: None, passed_over=lambda line: None,
        ).values()  # fmt: skip
        expected = FrameBatch.of(frames[::step])
        assert np.array_equal(found.gaps_s, expected.gaps_s)
        pairs = Pairs.of(expected.previous_luma, expected.gaps_s)
        speeds = speed_maps(torch.from_numpy(expected.images), pairs)
        assert np.array_equal(found.speeds, speeds.half().numpy())
        assert found.speeds.max() > 0.0
        assert (found.gaps_s > 0.0).tolist() == [False] + [True] * (len(found) - 1)


def test_a_frame_step_thins_the_footage_and_its_rate(dataset, encoder, tmp_path):
    (every, thinned) = (extract(dataset.train[1:2], encoder, tmp_path / str(step), step)[0] for step in (1, 5))
    assert (every.fps, thinned.fps) == (10.0, 2.0)
    assert len(thinned) == 4
    np.testing.assert_allclose(thinned.levels[0], every.levels[0][::5], rtol=2e-3, atol=2e-3)


def test_progress_ends_with_all_frames(dataset, encoder, tmp_path):
    told = []
    extract(dataset.train, encoder, tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (29, 29)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(done <= total for done, total in told)


def test_an_extraction_that_was_cut_off_goes_on_with_the_next_clip(dataset, encoder, tmp_path):
    whole = extract(dataset.train, encoder, tmp_path / "whole")

    def stop_in_the_second_clip(done, total):
        if done > 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(dataset.train, encoder, tmp_path / "cut", progress=stop_in_the_second_clip)
    kept = next((tmp_path / "cut").glob("clip-00000-stride8.f16"))
    written_at = kept.stat().st_mtime_ns
    resumed = extract(dataset.train, encoder, tmp_path / "cut")
    assert kept.stat().st_mtime_ns == written_at
    for first, second in zip(whole, resumed, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(first.levels, second.levels, strict=True))


def test_a_features_file_of_another_size_is_named(dataset, encoder, tmp_path):
    extract(dataset.train[:1], encoder, tmp_path)
    file = tmp_path / "clip-00000-stride16.f16"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(RunError, match=r"clip-00000-stride16\.f16: expected features of 9 frames"):
        extract(dataset.train[:1], encoder, tmp_path)


def test_every_clip_leaves_pictures_of_its_scene(dataset, encoder, tmp_path):
    for clip, found in zip(dataset.train, extract(dataset.train, encoder, tmp_path), strict=True):
        recorder = SceneSampler(10.0)
        with open_source(clip.url, SIZE_PX) as source:
            for frame in source:
                recorder.add(frame.image)
        np.testing.assert_array_equal(found.gray_images, recorder.gray_images())
        assert found.gray_images.shape == (1, *SIZE_PX)


@pytest.mark.parametrize(("name", "what"), [("scene", "pictures"), ("gaps", "gaps of 9 frames")])
def test_a_damaged_file_beside_the_features_is_named(dataset, encoder, tmp_path, name, what):
    extract(dataset.train[:1], encoder, tmp_path)
    file = tmp_path / f"clip-00000-{name}.npy"
    for content in (file.read_bytes()[:-9], b"", b"no array"):
        file.write_bytes(content)
        with pytest.raises(RunError, match=rf"clip-00000-{name}\.npy: expected {what}"):
            extract(dataset.train[:1], encoder, tmp_path)
    np.save(file, np.zeros(3, object) if name == "scene" else np.zeros(8, np.float32))
    with pytest.raises(RunError, match=rf"clip-00000-{name}\.npy: expected {what}"):
        extract(dataset.train[:1], encoder, tmp_path)


def test_a_clip_that_cannot_be_read_any_more_is_passed_over_and_named(dataset, encoder, tmp_path, caplog):
    (tmp_path / "text.mp4").write_text("no video")
    write_video(tmp_path / "short.mp4", 1, size_px=SIZE_PX)
    odd = [Clip(name, "gate", str(tmp_path / f"{name}.mp4"), 100) for name in ("gone", "text", "short")]
    told, passed_over = [], []
    with caplog.at_level(logging.WARNING):
        (found,) = extract(
            [*odd[:2], dataset.train[0], odd[2]], encoder, tmp_path / "f", 1, lambda *counts: told.append(counts),
            passed_over,
        )  # fmt: skip
    assert (found.clip, len(found), told[-1][0]) == (dataset.train[0], 9, 9)
    assert [line.split(":")[0].split("/")[-1].rstrip(")") for line in passed_over] == [
        "gone.mp4", "text.mp4", "short.mp4"
    ]  # fmt: skip
    assert all(line in caplog.text for line in passed_over)
    assert not extract([odd[0]], encoder, tmp_path / "g")


@pytest.mark.parametrize("suffix", ["mkv", "ts", "flv", "mp4"])
def test_the_rate_of_footage_is_what_its_frames_say_where_the_header_says_another(encoder, tmp_path, suffix):
    path = write_spaced(tmp_path / f"slow.{suffix}")
    (found,) = extract([Clip("slow", "gate", str(path), None)], encoder, tmp_path / "f")
    assert found.fps == pytest.approx(5.0, rel=0.1)


def test_a_truncated_clip_gives_what_is_there_and_says_what_is_missing(dataset, encoder, tmp_path, caplog):
    path = truncate(shutil_copy(dataset.train[1].url, tmp_path / "cut.mp4"), fraction=0.7)
    with caplog.at_level(logging.WARNING):
        (found,) = extract([Clip("cut", "gate", str(path), None)], encoder, tmp_path / "f")
    assert 0 < len(found) < 17
    assert f"cut: {17 - len(found)} of its frames are missing" in caplog.text


def shutil_copy(source, target):
    shutil.copy(source, target)
    return target


def test_a_folder_of_images_is_footage_too(encoder, tmp_path):
    folder = write_images(tmp_path / "images", 5, size_px=SIZE_PX)
    (found,) = extract([Clip("images", "gate", str(folder), 5, image_fps=12.5)], encoder, tmp_path / "f")
    assert len(found) == 5
    assert found.fps == 12.5
    assert found.gaps_s.tolist() == pytest.approx([0.0, 0.08, 0.08, 0.08, 0.08])


def test_a_disk_without_room_is_noticed_before_anything_is_decoded(dataset, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "total used free")(10, 9, 1000))
    with pytest.raises(DatasetError, match=r"GB of room .* of 29 frames .*frame_step"):
        extract(dataset.train, encoder, tmp_path)
    assert not list(tmp_path.glob("*.f16"))


def vectors_of(encoder, images):
    return [level.permute(0, 2, 3, 1).flatten(1, 2).numpy() for level in encoder(torch.from_numpy(images))]


def test_variants_are_kept_beside_the_features_of_the_frames_as_they_are(dataset, encoder, tmp_path):
    (plain,) = extract(dataset.train[1:2], encoder, tmp_path / "plain")
    (varied,) = extract(dataset.train[1:2], encoder, tmp_path / "varied", augmentation=VARIED)
    assert (len(plain.variants()), len(varied.variants()), len(varied)) == (1, 3, 17)
    own, *changed = varied.variants()
    for level, expected in zip(own.levels, plain.levels, strict=True):
        np.testing.assert_array_equal(level, expected)
    np.testing.assert_array_equal(varied.gray_images, plain.gray_images)
    with open_source(dataset.train[1].url, SIZE_PX) as source:
        images = np.stack([frame.image for frame in source])
    for number, variant in enumerate(changed, start=1):
        assert len(variant) == 17
        for frame in (0, 11):
            image, _ = vary_pair(images[frame], None, 1.0, np.random.default_rng((2, 0, number, frame)))
            for level, expected in zip(variant.levels, vectors_of(encoder, image[np.newaxis]), strict=True):
                np.testing.assert_allclose(level[frame], expected[0], rtol=2e-3, atol=2e-3)


def test_an_extraction_of_variants_that_was_cut_off_gives_the_same(dataset, encoder, tmp_path):
    (whole,) = extract(dataset.train[1:2], encoder, tmp_path / "whole", augmentation=VARIED)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(dataset.train[1:2], encoder, tmp_path / "cut", progress=stop, augmentation=VARIED)
    (resumed,) = extract(dataset.train[1:2], encoder, tmp_path / "cut", augmentation=VARIED)
    for first, second in zip(whole.variants(), resumed.variants(), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(first.levels, second.levels, strict=True))


def test_a_variants_file_of_another_size_is_named(dataset, encoder, tmp_path):
    extract(dataset.train[:1], encoder, tmp_path, augmentation=VARIED)
    file = tmp_path / "clip-00000-stride8-variant2.f16"
    file.write_bytes(file.read_bytes() + b"..")
    with pytest.raises(RunError, match=r"clip-00000-stride8-variant2\.f16: expected features of 9 frames"):
        extract(dataset.train[:1], encoder, tmp_path, augmentation=VARIED)


def test_room_is_wanted_for_variants_too(dataset, encoder, tmp_path, monkeypatch):
    spec = pyramid_spec(tiny_settings(), encoder)
    free = 2**28 + 2 * 29 * spec.bytes_per_frame  # enough for two of three
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "total used free")(free, 0, free))
    extract(dataset.train, encoder, tmp_path / "one", augmentation=PhotometricSettings(variants=1))
    with pytest.raises(DatasetError, match=r"frame_step higher, training\.augmentation\.variants lower or write"):
        extract(dataset.train, encoder, tmp_path / "two", augmentation=VARIED)


def test_features_are_kept_under_a_key_that_knows_their_variants(dataset, encoder):
    def key(seed=0, **augmentation):
        training = TrainingSettings.model_validate({"seed": seed, "augmentation": augmentation})
        return features_key(dataset, encoder, tiny_settings(), training)

    assert key() == key(seed=1) == key(strength=0.5)  # nothing is drawn
    assert len({key(), key(variants=1), key(variants=2), key(variants=1, strength=0.5)}) == 4
    assert key(1, variants=1) == key(variants=1)  # trainings with other seeds share them
