from pipeline.camera_settings import CameraSettings
from pipeline.checks.zones import check_zones

LEFT = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
TOP = [[0, 0], [1, 0], [1, 0.25], [0, 0.25]]


def camera(camera_id, *zones, time_zone="UTC"):
    given = {"id": camera_id, "url": "x.mp4", "zones": list(zones), "time_zone": time_zone}
    return CameraSettings.model_validate(given)


def test_check_says_what_zones_come_to_now_and_at_other_times():
    night = [{"hours": "22:00-06:00"}]
    cameras = [
        camera("bare"),
        camera("gate", {"name": "yard", "watch": LEFT, "sensitivity": 2, "active": night}, time_zone="Asia/Tokyo"),
        camera("hall", {"name": "screen", "ignore": TOP}, {"name": "door", "watch": LEFT, "active": night}),
    ]
    gate, hall = check_zones(cameras, now_s=0.0)  # 9 o'clock in Tokyo
    assert (gate.what, gate.state) == ("zones gate", "ok")
    assert gate.detail == (
        "1 zone (yard watched x2): not armed now; at other times 50 % of the image watched (Asia/Tokyo)"
    )
    assert hall.detail == (
        "2 zones (screen ignored, door watched): 38 % of the image watched now; at other times not armed (UTC)"
    )
