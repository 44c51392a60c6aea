import json

from benchmarks import machine


def test_results_of_different_checkouts_do_not_overwrite_each_other(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    about = {"benchmark": "footprint", "date": "2026-11-25", "commit": "aaaaaaaaaaaa+changes"}
    machine.store(about)
    machine.store({**about, "measured_commit": "bbbbbbbbbbbb"})
    machine.store({**about, "measured_commit": ""})  # it was no checkout
    names = ["footprint-2026-11-25-aaaaaaaaaaaa.json", "footprint-2026-11-25-bbbbbbbbbbbb.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert json.loads((tmp_path / names[1]).read_text())["measured_commit"] == "bbbbbbbbbbbb"
    assert len(capsys.readouterr().out.splitlines()) == 3
