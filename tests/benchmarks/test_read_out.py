"""Choosing the read-out: synthetic against held-out normal frames, each read-out with constants of its own."""

import json

import numpy as np
import pytest
import torch

from benchmarks import machine
from benchmarks.read_out import Model, present_read_out, report
from benchmarks.read_out_choice import (
    COLUMNS,
    Maps,
    Seen,
    Variation,
    best,
    compare,
    mean_of,
    neighbours,
    table,
    variations,
)
from pipeline.models.read_out import read

PRESENT = Variation(0.05, "all", "max", "learned")
CELLS = (4, 5)


def maps(count, seed, *, bright=0.0, fast=0.0, light=0.0):
    """Noise, with something bright, or fast, in one cell; light lifts appearance everywhere."""
    random = torch.Generator().manual_seed(seed)
    every, finest, speeds = (torch.rand(count, *CELLS, generator=random) for _ in range(3))
    every[:, 1, 2] += bright
    finest[:, 1, 2] += bright
    speeds[:, 1, 2] += fast
    return Maps(every + light, finest + light, speeds)


def seen(**thing):
    masks = np.zeros((12, *CELLS), bool)
    masks[:, 1, 2] = True
    return Seen(
        normal=(maps(12, 1), maps(12, 1, light=3.0)),
        learned=None,
        usual_speeds=maps(20, 2).speeds,
        synthetic=(maps(12, 3, **thing), maps(12, 3, light=3.0, **thing)),
        kinds=np.repeat(["moves", "appears", "dashes"], 4),
        masks=masks,
    )


@pytest.mark.parametrize(("thing", "blind"), [({"bright": 9.0}, "motion"), ({"fast": 9.0}, "appearance")])
def test_a_read_out_sees_what_its_channels_see_and_the_maximum_sees_both(thing, blind):
    alone = Variation(0.05, "all", "motion", "none"), Variation(0.05, "finest", "appearance", "learned")
    found = compare(seen(**thing), [PRESENT, *alone])
    assert set(found[PRESENT]) == set(COLUMNS)
    assert found[PRESENT]["frame"] == found[PRESENT]["pixel"] == 1.0
    for of in alone:
        sees = of.combination != blind
        assert (found[of]["frame"] == 1.0) is (found[of]["pixel"] == 1.0) is sees


def test_light_hides_what_is_bright_unless_the_common_part_is_taken_off():
    kept, off = compare(
        seen(bright=2.0), [Variation(0.05, "all", "appearance", share) for share in ("none", "all")]
    ).values()
    assert kept["frame"] == off["frame"] == off["any light"] == 1.0 > kept["any light"]


def test_the_present_read_out_stays_unless_another_is_better_by_more_than_chance():
    other = Variation(0.02, "all", "sum", "none")
    numbers = [{PRESENT: 0.9, other: 0.9 + gain} for gain in (0.0, 0.008, 0.04)]
    by_set = [{of: dict.fromkeys(COLUMNS, value) for of, value in one.items()} for one in numbers]
    assert best(mean_of(by_set[:2]), PRESENT) == PRESENT
    assert best(mean_of(by_set[1:]), PRESENT) == other
    assert (
        table(mean_of(by_set[:1]), [PRESENT])
        .splitlines()[-1]
        .startswith("| max, top 0.05, levels all, share learned | 0.900 |")
    )


def test_what_is_chosen_is_printed_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    other = Variation(0.05, "all", "sum", "learned")
    found = {PRESENT: dict.fromkeys(COLUMNS, 0.8), other: dict.fromkeys(COLUMNS, 0.9)}
    report({"yard": found}, PRESENT)
    printed = capsys.readouterr().out
    assert f"chosen: {other};" in printed and printed.startswith("yard\n| read-out |")
    (file,) = tmp_path.iterdir()
    stored = json.loads(file.read_text())
    assert (stored["present"], stored["chosen"]) == (str(PRESENT), str(other))
    assert stored["found"]["mean"][str(other)] == dict.fromkeys(COLUMNS, 0.9)


def test_neighbours_differ_in_one_thing():
    assert set(neighbours(PRESENT, variations(PRESENT))) == {
        *(Variation(top, "all", "max", "learned") for top in (0.002, 0.005, 0.01, 0.02, 0.03, 0.05)),
        Variation(0.05, "finest", "max", "learned"),
        Variation(0.05, "all", "sum", "learned"),
        Variation(0.05, "all", "appearance", "learned"),
        Variation(0.05, "all", "motion", "none"),
        *(Variation(0.05, "all", "max", share) for share in ("none", "all")),
    }


def test_held_out_frames_are_read_again_as_they_were_and_with_things_pasted(trained):
    """Two clips of 20 frames of each of two cameras: the last 2 of one, and the first 2 of the other, are held out."""
    model = Model(trained.folder, trained.dataset)
    found = model.seen(3, seed=0)
    assert len(found.normal[0].every) == len(found.normal[1].every) == 6 and found.learned is not None
    assert set(found.kinds) == {"moves", "appears", "dashes"} and found.masks.shape == found.synthetic[0].every.shape
    assert found.masks.any() and not torch.equal(found.normal[0].every, found.normal[1].every)
    present = present_read_out(model.card)
    # The stored maps give the very scores that the card says of these frames.
    normal = {round(score, 4) for clips in model.card.normal_scores.values() for clip in clips for score in clip}
    reading = model.card.read_out
    assert reading is not None and present == Variation(0.02, "all", "max", "learned")
    again = found.normal[0]
    scores = read(again.appearance("all"), again.speeds, again.paired, reading, present.top_fraction).scores
    assert {round(score, 4) for score in scores.tolist()} <= normal
