"""The report as a file: complete in itself, safe, deterministic, bounded."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import VideoError
from pipeline.evaluation.figures import ScoreTimeline, map_limits, timeline_svg, with_map, with_truth
from pipeline.evaluation.protocols import ClipResult, evaluate
from pipeline.evaluation.report import clips_to_show, write_report
from tests.evaluation.footage import MODEL, dataset_of, maps_of, pixel_clip, score_rows, write_scores

ATTACK = "<script>alert(1)</script>"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Outline(HTMLParser):
    """Collects tags, ids and addresses, and checks that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in {"src", "href", "xlink:href", "data", "action"}:
                self.addresses.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def material(tmp_path):
    clips = [pixel_clip(f"a_{n}", "a", 12, tmp_path / "footage", seed=n) for n in range(3)]
    rows = []
    for clip in clips:
        maps = maps_of(clip)
        rows.append(score_rows(clip.name, maps.max(axis=(1, 2)), maps=maps))
    dataset = dataset_of(*clips)
    scores = write_scores(tmp_path / "scores", *rows, maps=True)
    return evaluate(scores, dataset), scores, dataset


def test_the_report_stands_by_itself_and_is_well_formed(material, tmp_path):
    path = write_report(tmp_path / "new" / "report.html", *material)
    page = path.read_text(encoding="utf-8")
    outline = Outline(page)
    assert outline.open == []
    assert not {"script", "link", "iframe", "object"} & set(outline.tags)
    assert outline.addresses and all(
        address.startswith(("data:image/jpeg;base64,", "#")) for address in outline.addresses
    )
    assert not re.findall(r"url\((?!#)|@import", page)
    assert len(page) < 1_000_000
    assert list(path.parent.iterdir()) == [path]


def test_ids_that_are_referred_to_mean_one_thing_only(material, tmp_path):
    page = write_report(tmp_path / "report.html", *material).read_text(encoding="utf-8")
    meanings = {}
    for name, body in re.findall(r'<(?:clipPath|path) id="([^"]+)"(.*?)/>', page, flags=re.DOTALL):
        assert meanings.setdefault(name, body) == body
    assert meanings
    assert not re.search(r' id="[a-z0-9.]+_\d+"', page)


def test_the_same_input_gives_the_same_bytes(material, tmp_path):
    first, second = (write_report(tmp_path / name, *material).read_bytes() for name in ("1.html", "2.html"))
    assert first == second


def test_text_from_outside_is_escaped(material, tmp_path):
    path = write_report(
        tmp_path / "report.html",
        *material,
        title=ATTACK,
        notes=[ATTACK],
        cameras=[{ATTACK: ATTACK}],
    )
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 5  # the title stands twice, and the column's name beside its value


def test_headline_metrics_stand_beside_their_floors(material, tmp_path):
    evaluation = material[0]
    page = write_report(tmp_path / "report.html", *material).read_text(encoding="utf-8")
    for value in (evaluation.overall.frame_auroc, evaluation.overall.pixel_auroc, evaluation.overall.aupro):
        assert f"{value:.4f}" in page
    assert f"{evaluation.overall.floors['pixel_auroc']['perfect_frames']:.3f}" in page
    assert "not attainable live" in page and "normal above threshold" in page
    assert "time passed in the clip" in page and "random_padded" not in page
    assert MODEL[:12] in page


def test_accounts_are_tabled(material, tmp_path):
    path = write_report(
        tmp_path / "report.html",
        *material,
        cameras=[{"camera": "gate", "decoded": 1234, "latency_p99_ms": 12.3456, "dropped": {"overload": 2}}],
    )
    page = path.read_text(encoding="utf-8")
    assert all(f">{cell}</td>" in page for cell in ("gate", "1,234", "12.35", "overload 2"))


def test_events_that_the_scores_tell_of_are_tabled_and_drawn_on_their_clip(material, tmp_path):
    _, _, dataset = material
    rows = {clip.name: score_rows(clip.name, np.linspace(0, 1, 12)) for clip in dataset.test}
    rows["a_1"][4:6] = [
        replace(row, event_id="a_1-1700000003000-0-3", event_start_s=0.3, anomaly_score=1.0625)
        for row in rows["a_1"][4:6]
    ]
    scores = write_scores(tmp_path / "with events", *rows.values())
    page = write_report(tmp_path / "r.html", evaluate(scores, dataset), scores, dataset).read_text(encoding="utf-8")
    assert re.findall(r"<td[^>]*>([^<]*)</td>", page[page.index("<h2>Events") : page.index("<h2>Clips")]) == [
        *("a_1", "a_1-1700000003000-0-3", "0.3", "0.5", "1.062", "0.8")
    ]
    assert page.count("1 event</span>") == 1 and page.count("0 events</span>") == 2


def test_scores_without_events_say_that_there_are_none(material, tmp_path):
    page = write_report(tmp_path / "report.html", *material).read_text(encoding="utf-8")
    assert "no event opened in any clip" in page


def test_pictures_show_the_decoded_frame_and_its_map(material, tmp_path):
    evaluation, scores, dataset = material
    page = write_report(tmp_path / "report.html", evaluation, scores, dataset).read_text(encoding="utf-8")
    page = page[page.index("<h2>Clips") :]
    addresses = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', page)
    assert len(addresses) == 3 * 2 * 2  # clips, frames of interest, plain and with map
    pictures = {alt: np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data, alt in addresses}
    clip = dataset.test[0]
    number = int(next(re.search(r"frame (\d+)", alt)[1] for alt in pictures if alt.endswith(f"of {clip.name}")))
    with Image.open(f"{clip.url}/{number:03d}.png") as original:
        mean = np.asarray(original).mean()
    shown = pictures[f"frame {number} of {clip.name}"]
    assert shown.shape[1] == 400 and abs(shown.shape[0] - 400 * 32 / 48) <= 2
    assert shown.mean() == pytest.approx(mean, abs=25)  # the outline of the truth adds a little


def test_scores_without_maps_make_a_report_without_maps(material, tmp_path):
    dataset = material[2]
    rows = [score_rows(clip.name, np.linspace(0, 1, clip.frame_count)) for clip in dataset.test]
    scores = write_scores(tmp_path / "plain", *rows)
    page = write_report(tmp_path / "r.html", evaluate(scores, dataset), scores, dataset).read_text(encoding="utf-8")
    assert page[page.index("<h2>Clips") :].count("<img") == 3 * 2
    assert "hold no anomaly maps" in page and "linear-gradient" in page and "colour scale:" not in page


def test_footage_that_is_gone_is_named(material, tmp_path):
    evaluation, scores, dataset = material
    moved = dataset_of(*(replace(clip, url=str(tmp_path / "gone")) for clip in dataset.test))
    with pytest.raises(VideoError, match="a_0"):
        write_report(tmp_path / "report.html", evaluation, scores, moved)
    assert not (tmp_path / "report.html").exists()


def test_of_many_clips_each_scene_shows_its_worst_and_best(material):
    clips = tuple(
        ClipResult(f"{scene}_{n:02d}", scene, 10, 5, None if n == 0 else n / 40, (), (), ())
        for scene in "ab"
        for n in range(40)
    )
    many = replace(material[0], clips=clips, scenes=dict.fromkeys("ab", material[0].overall))
    shown = [clip.name for clip in clips_to_show(many, most=8)]
    assert shown == [f"{scene}_{n:02d}" for scene in "ab" for n in (1, 2, 38, 39)]
    assert clips_to_show(material[0]) == list(material[0].clips)


def test_a_timeline_shades_truth_and_marks_events():
    labels = np.array([False, True, True, False, True])
    timeline = ScoreTimeline(np.arange(5) / 10, np.arange(5.0), np.full(5, 2.0), labels, [(0.1, 0.3)], [4])
    svg = timeline_svg(timeline, (0.0, 5.0))
    assert svg.count("fill: var(--truth)") == 2
    assert "var(--event)" in svg and "var(--threshold)" in svg and "var(--score)" in svg
    assert not re.search(r"#0[1-6]0[1-6]0[1-6]", svg)
    assert svg.startswith("<svg") and " width=" not in svg[: svg.index(">")]


def test_a_timeline_of_one_frame_can_be_drawn():
    one = np.zeros(1)
    assert timeline_svg(ScoreTimeline(one, one, one, one.astype(bool), [], [0]), (-1.0, 1.0)).startswith("<svg")


def test_maps_below_the_scale_leave_the_frame_gray_and_above_it_take_the_last_colour():
    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    low = with_map(image, np.zeros((1, 1), dtype=np.float16), (0.5, 1.0))
    assert (low == 100).all()
    high, higher = (with_map(image, np.full((1, 1), v, dtype=np.float16), (0.5, 1.0)) for v in (1.0, 7.0))
    assert (high == higher).all() and (high[0, 0] != 100).any()
    assert map_limits(np.ones(10)) == (1.0, 2.0)


def test_the_outline_of_the_truth_lies_around_it_not_on_it():
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    mask = np.zeros((20, 20), dtype=bool)
    mask[8:12, 8:12] = True
    drawn = with_truth(image, mask)
    assert not drawn[mask].any() and drawn[7, 9].any() and drawn[6, 9].any() and not drawn[5, 9].any()
    assert with_truth(image, np.zeros_like(mask)) is image
