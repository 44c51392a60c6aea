from pipeline.runtime.spreading import DetectorSpreading


def test_one_of_several_on_a_node_makes_room_for_one_on_a_node_that_came_later_the_one_with_fewest_cameras():
    spreading = DetectorSpreading()
    both = {"d0": "a", "d1": "a"}
    assert spreading.update(both, ["a"], {"d0": 4, "d1": 3}) is None
    assert spreading.update(both, ["a", "b"], {"d0": 4, "d1": 3}) == ("d1", "b")


def test_a_node_is_tried_once_and_one_that_has_had_a_detector_is_not_looked_at_again():
    spreading = DetectorSpreading()
    load = {"d0": 1, "d1": 1}
    assert spreading.update({"d0": "a", "d1": "b"}, ["a", "b"], load) is None
    assert spreading.update({"d0": "a", "d1": "a"}, ["a", "b"], load) is None
    assert spreading.update({"d0": "a", "d1": "a"}, ["a", "b", "c"], load) == ("d0", "c")
    assert spreading.update({"d0": "a", "d1": "a"}, ["a", "b", "c"], load) is None


def test_one_of_each_node_is_not_moved_to_another():
    assert DetectorSpreading().update({"d0": "a", "d1": "b"}, ["a", "b", "c"], {"d0": 1, "d1": 1}) is None
    assert DetectorSpreading().update({}, ["a"], {}) is None
