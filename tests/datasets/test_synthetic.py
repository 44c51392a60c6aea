import numpy as np
import pytest

from pipeline.datasets.synthetic import Camera, SyntheticSpec, render
from pipeline.errors import DatasetError
from pipeline.video.source import open_source

SPEC = SyntheticSpec(
    cameras=4, size_px=(96, 128), fps=5, train_clips=1, train_frames=20, test_clips=2, test_frames=60, seed=3
)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic") / "data"
    seen = []
    return render(root, SPEC, lambda done, total: seen.append((done, total))), seen


def test_rendering_gives_a_data_set_that_passes_its_own_checks(rendered):
    dataset, _ = rendered
    assert dataset.scenes == ("gate", "plaza", "plaza2", "road")
    assert [clip.frame_count for clip in dataset.train] == [20] * 4
    assert [clip.frame_count for clip in dataset.test] == [60] * 8
    assert "plaza_001" in {clip.name for clip in dataset.train}
    assert "plaza_0002" in {clip.name for clip in dataset.test}


def test_progress_counts_every_frame(rendered):
    _, seen = rendered
    assert seen == [(i, SPEC.total_frames) for i in range(1, SPEC.total_frames + 1)]
    assert SPEC.total_frames == 4 * (20 + 2 * 60)


def test_every_test_clip_is_normal_before_between_and_after_its_anomalies(rendered):
    for clip in rendered[0].test:
        labels = clip.frame_labels()
        assert labels is not None
        runs = np.flatnonzero(np.diff(labels.astype(int)))
        assert len(runs) == 4
        assert not labels[0] and not labels[-1]
        assert 0.2 <= labels.mean() <= 0.42


def test_a_frame_is_anomalous_when_some_of_its_pixels_are(rendered):
    for clip in rendered[0].test:
        labels, pixels = clip.frame_labels(), clip.pixel_labels()
        assert pixels is not None and pixels.shape == (60, 96, 128)
        assert np.array_equal(labels, pixels.any(axis=(1, 2)))
        assert pixels[labels].sum(axis=(1, 2)).min() >= 3


def test_masks_lie_where_the_picture_differs_from_the_same_picture_without_anomalies(rendered):
    clip = next(clip for clip in rendered[0].test if clip.name == "plaza_0001")
    with open_source(clip.url, SPEC.size_px) as source:
        images = np.stack([frame.image for frame in source]).astype(float)
    usual = np.median(images, axis=0)
    difference = np.abs(images - usual).max(axis=3)
    pixels = clip.pixel_labels()
    assert pixels is not None
    assert difference[pixels].mean() > 4 * difference[~pixels].mean()


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path):
    small = {"cameras": 1, "size_px": (48, 64), "train_clips": 1, "train_frames": 5, "test_clips": 1, "test_frames": 20}
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        render(tmp_path / folder, SyntheticSpec(**small, seed=seed))
    files = [path.relative_to(tmp_path / "a") for path in sorted((tmp_path / "a").rglob("*.*"))]
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    videos = [file for file in files if file.suffix == ".mp4"]
    assert all((tmp_path / "a" / file).read_bytes() != (tmp_path / "c" / file).read_bytes() for file in videos)


def test_cameras_differ_from_each_other_more_than_any_one_changes():
    spec = SyntheticSpec(cameras=6, size_px=(96, 128))
    first_and_last = []
    for number in range(spec.cameras):
        images = [image.astype(float) for image, _ in Camera(number, spec).frames(1, 30, anomalies=False)]
        first_and_last.append((images[0], images[-1]))
    within = max(np.abs(a - b).mean() for a, b in first_and_last)
    between = min(
        np.abs(first_and_last[i][0] - first_and_last[j][0]).mean() for i in range(3) for j in range(3) if i != j
    )
    assert between > 2 * within


def test_normal_footage_holds_nothing_that_does_not_belong():
    spec = SyntheticSpec(size_px=(96, 128))
    assert not any(mask.any() for _, mask in Camera(1, spec).frames(1, 50, anomalies=False))


def test_people_walk_in_every_scene_at_most_times():
    spec = SyntheticSpec(size_px=(96, 128), fps=5)
    for number in range(3):
        images = np.stack([image for image, _ in Camera(number, spec).frames(1, 60, anomalies=False)]).astype(float)
        moving = (np.abs(images - np.median(images, axis=0)).max(axis=3) > 40).sum(axis=(1, 2))
        assert np.mean(moving > 15) > 0.8


def test_rendering_over_a_data_set_is_refused(tmp_path):
    (tmp_path / "training").mkdir()
    with pytest.raises(DatasetError, match="expected a folder without a data set"):
        render(tmp_path, SPEC)
