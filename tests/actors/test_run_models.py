"""A model that follows another while a run goes on, with actors that live in the process of the test."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from actors.control import RunControl
from pipeline.camera_settings import CameraSettings
from pipeline.config import Config
from pipeline.errors import BadInputError
from pipeline.models.normal_file import StoredMaps
from pipeline.models.normal_store import NormalStore
from pipeline.models.source import ModelSource
from pipeline.normal_footage import AddedStretch, MapStretch, NormalStretch
from pipeline.runtime.model_swap import RunModel
from tests.actors.supervised import CARD, READER, Run, camera

NEXT = RunModel(CARD.model_copy(update={"fingerprint": "b" * 64}), ModelSource("b" * 64, "/models/next"))
OLD, SPARE, NEW = "run-detector-0", "run-detector-1", "run-detector-2"


@pytest.fixture
def run():
    """One detector works, and a spare one."""
    run = Run("gate", spare=1)
    for _ in range(3):
        run.step()
    run["run-camera-0"].readers = {"gate": READER}
    return run


def detectors(run):
    return set(run.supervisor._actors.detectors)


def held_back(run, detector):
    """It does not come up until it is let."""
    made = run.fleet.detector

    def make(name):
        actor = made(name)
        if name == detector:
            actor.die()
        return actor

    run.fleet.detector = make


def test_the_spare_detector_makes_room_the_new_one_loads_and_the_old_one_goes_once_it_is_empty(run):
    held_back(run, NEW)
    run.supervisor.models.change(NEXT)
    run.step()
    run.step()
    assert detectors(run) == {OLD, NEW}
    sources = [run.fleet.models.source_of(name) for name in (OLD, NEW)]
    assert sources == [run.fleet.models.first, NEXT.source]
    assert run["run-camera-0"].desired.consumer == OLD
    assert [card.fingerprint for card in run["run-scorer-0"].desired.cards] == [NEXT.card.fingerprint, CARD.fingerprint]
    assert run.supervisor.status().model.phase == "loading"
    assert [model.card for model in run.supervisor.models.scoring()] == [CARD]
    run[NEW].come_back()
    for _ in range(4):
        run.step()
    assert run["run-camera-0"].desired.consumer == NEW
    assert run.supervisor.status().model.phase == "in use"
    assert run.supervisor.models.scoring() == (NEXT,)
    assert detectors(run) == {NEW, "run-detector-3"}  # a spare one again
    assert run.fleet.models.source_of("run-detector-3") == NEXT.source
    assert [card.fingerprint for card in run["run-scorer-0"].desired.cards] == [NEXT.card.fingerprint]
    assert run.supervisor.status().totals()["model"]["fingerprint"] == NEXT.card.fingerprint


def test_a_camera_that_comes_while_the_models_footage_is_read_is_not_forgotten(run, monkeypatch):
    models = run.supervisor.models
    is_read, go_on = threading.Event(), threading.Event()

    def of(cameras):
        if not is_read.is_set():
            is_read.set()
            assert go_on.wait(60.0)
        return {"cameras": tuple(camera.id for camera in cameras)}

    monkeypatch.setattr(models._footage, "of", of)
    change = threading.Thread(target=models.change, args=(NEXT,))
    change.start()
    assert is_read.wait(60.0)
    add = threading.Thread(target=models.prepare, args=((camera("gate"), camera("yard")),))
    add.start()
    add.join(0.5)  # it waits; if it did not, it would be done
    go_on.set()
    change.join()
    add.join()
    assert run.supervisor._desired_states.normal == {"cameras": ("gate", "yard")}


def test_a_new_detector_that_cannot_start_leaves_everything_as_it_was_and_its_reason(run):
    held_back(run, NEW)
    run.supervisor.models.change(NEXT)
    run.step()
    run[NEW].failure = "no such weights"
    for _ in range(4):
        run.step()
    assert run["run-camera-0"].desired.consumer == OLD
    assert detectors(run) == {OLD, "run-detector-3"}
    assert run["run-scorer-0"].desired.cards == ()
    assert run.supervisor.status().model.failure.endswith("run-detector-2 did not start: no such weights")
    assert run.supervisor.models.current.card == CARD


def test_two_changes_at_a_time_and_one_without_room_are_refused_with_nothing_changed(run):
    run.fleet.models.no_room = True
    with pytest.raises(BadInputError, match="expected room"):
        run.supervisor.models.change(NEXT)
    run.step()
    assert detectors(run) == {OLD, SPARE}
    run.fleet.models.no_room = False
    held_back(run, NEW)
    run.supervisor.models.change(NEXT)
    with pytest.raises(BadInputError, match="a change is under way"):
        run.supervisor.models.change(NEXT)


def test_normal_footage_that_was_added_beside_the_model_reaches_scorers_when_it_is_read_again(run, tmp_path):
    models = run.supervisor.models
    run.fleet.models.folder = lambda source: tmp_path
    assert not models.read_footage_again()
    stretch = AddedStretch(NormalStretch("own", 5.0, np.array([1.0, 2.0])), "gate")
    NormalStore().with_added([stretch]).write(tmp_path, CARD.fingerprint)
    assert models.read_footage_again()
    assert not models.read_footage_again()
    models.prepare([])
    run.step()
    (added,) = run["run-scorer-0"].desired.normal[CARD.fingerprint]
    assert added.stretch.scores.tolist() == [1.0, 2.0]


def lie_beside(folder, model, top):
    """Maps of normal footage beside a model, whose frames score up to ``top``."""
    maps = np.linspace(0.0, top, 50)[:, None, None] * np.ones((1, 4, 6))
    folder.mkdir()
    store = NormalStore().with_added((), maps=[StoredMaps.of("gate", MapStretch("own", 5.0, maps.astype(np.float16)))])
    store.write(folder, model)
    return ModelSource(model, str(folder))


def told(run):
    """What the scorer was told of stored maps: by model, the zones and the highest score."""
    normal = run["run-scorer-0"].desired.normal
    return {model: {one.zones: round(one.stretch.scores.max()) for one in added} for model, added in normal.items()}


def test_scorers_know_what_a_models_maps_score_under_new_zones_before_they_score_by_them(run, tmp_path):
    first, coming = lie_beside(tmp_path / "a", CARD.fingerprint, 10.0), lie_beside(tmp_path / "b", "b" * 64, 20.0)
    run.fleet.models.first = first
    run.supervise()
    run.step()
    run.step()
    assert told(run) == {first.fingerprint: {}}
    door = {"name": "door", "watch": [[0, 0], [1, 0], [1, 1]], "sensitivity": 2}
    zoned = CameraSettings.model_validate({"id": "gate", "url": "rtsp://h/x", "zones": [door]})
    control = RunControl(Config(), None, (), run.supervisor.apply, run.supervisor.models, stop=lambda: None)
    control.answer({"do": "add", "camera": {**zoned.model_dump(mode="json"), "url": "rtsp://h/x"}})
    run.step()
    key = zoned.zoning.at(0.0).key
    assert run["run-scorer-0"].desired.cameras == (zoned,)
    assert told(run) == {first.fingerprint: {key: 20}}
    run.supervisor.models.change(replace(NEXT, source=coming))
    run.step()
    assert told(run) == {first.fingerprint: {key: 20}, coming.fingerprint: {key: 40}}
