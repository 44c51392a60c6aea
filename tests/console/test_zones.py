import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import run_cluster
from pipeline.console.tables import cameras_table
from pipeline.console.zone_picture import draw_zones
from pipeline.zone_settings import ScheduleSettings, ZoneSettings
from pipeline.zoning import Zoning
from tests.videos import write_video

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
CONFIG = """
camera_defaults: {time_zone: Asia/Tokyo}
cameras:
- id: gate
  url: gate.mp4
  zones:
  - {name: yard, watch: [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], sensitivity: 2}
  - {name: tree, ignore: [[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]]}
- {id: gone, url: gone.mp4}
- {id: secret, url: "rtsp://viewer:${NOT_SET}@h/x"}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("NOT_SET", "hunter2secret")
    write_video(tmp_path / "gate.mp4", 3)
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG)
    return path


def preview(config, camera, file):
    done = CliRunner().invoke(
        run_cluster.app, ["zones", "preview", "--config", str(config), camera, "--out", str(file)]
    )
    return done.exit_code, done.output if done.exception is None else str(done.exception)


def test_a_preview_is_the_cameras_picture_at_a_legible_size_and_says_what_is_watched(config, tmp_path):
    code, said = preview(config, "gate", tmp_path / "out" / "gate.png")
    assert code == 0
    assert said.endswith("gate, 2 zones (yard watched x2, tree ignored): 25 % of the image watched\n")
    picture = Image.open(tmp_path / "out" / "gate.png")
    assert (picture.format, picture.size) == ("PNG", (800, 600))


@pytest.mark.parametrize(
    ("camera", "said"),
    [("nobody", r"expected one of its cameras \(gate, gone, secret\), got 'nobody'"), ("gone", "gone .*nothing there")],
)
def test_what_cannot_be_drawn_is_answered_in_one_line_and_nothing_is_written(config, tmp_path, camera, said):
    code, answer = preview(config, camera, tmp_path / "x.png")
    assert code != 0
    assert len(answer.splitlines()) == 1
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(answer)
    assert not (tmp_path / "x.png").exists()


def test_what_does_not_count_at_the_time_is_darkened_and_zones_stand_where_they_are():
    at_night = ZoneSettings(name="yard", watch=LEFT, active=(ScheduleSettings(hours="22:00-06:00"),))
    always = ZoneSettings(name="door", watch=((0.75, 0), (1, 0), (1, 1), (0.75, 1)))
    zoning, white = Zoning.of([at_night, always], "UTC"), np.full((90, 160, 3), 250, np.uint8)
    by_night, by_day = (
        np.asarray(draw_zones(white, [at_night, always], zoning.at(at_s), "c").convert("L")) for at_s in (0.0, 43_200.0)
    )
    height, width = by_night.shape
    row = int(0.77 * height)  # between lines and words
    shares = {"yard": 0.23, "nowhere": 0.63, "door": 0.83}
    night, day = (
        {name: int(drawn[row, int(share * width)]) for name, share in shares.items()} for drawn in (by_night, by_day)
    )
    assert min(night["yard"], night["door"], day["door"]) > 200
    assert max(night["nowhere"], day["nowhere"], day["yard"]) < 150


def test_status_says_which_cameras_are_not_armed_at_present():
    console = Console(file=io.StringIO(), width=200)
    statuses = [
        {"camera_id": name, "state": "streaming", "armed": armed} for name, armed in (("a", True), ("b", False))
    ]
    console.print(cameras_table(statuses, "cameras"))
    armed, resting = (line for line in console.file.getvalue().splitlines() if "streaming" in line)
    assert ("not armed" in armed, "streaming, not armed" in resting) == (False, True)
