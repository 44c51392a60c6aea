"""The dashboard loads as it is: what Grafana needs to find in it is there, each once.

Grafana itself is no package of Debian's. Its foundation SDK, whose model of dashboards is Grafana's own, read this one
whole once, and dropped nothing.
"""

import re

from tests.monitoring.shipped import DASHBOARD, PANELS, TARGETS

VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


def test_whoever_loads_it_chooses_the_prometheus_and_everything_else_follows_that_choice():
    assert (VARIABLES["datasource"]["type"], VARIABLES["datasource"]["query"]) == ("datasource", "prometheus")
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    queries = [variable for variable in VARIABLES.values() if variable["type"] == "query"]
    targets = [target for panel in PANELS for target in panel["targets"]]
    assert all(part["datasource"] == chosen for part in [*queries, *PANELS, *targets])
    assert "__inputs" not in DASHBOARD


def test_panels_have_an_id_and_a_place_of_their_own_and_a_title():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids)) > 20
    cells = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert panel["title"]
        assert place["x"] + place["w"] <= 24
        columns = range(place["x"], place["x"] + place["w"])
        taken = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        cells |= taken


def test_every_panel_asks_something_and_only_with_variables_that_there_are():
    grafanas = {"__rate_interval", "__all"}
    for panel in PANELS:
        assert [target["refId"] for target in panel["targets"]] == list("ABC"[: len(panel["targets"])])
    for title, expression in TARGETS:
        assert 'job="cflow"' in expression, title
        assert set(re.findall(r"\$\{?(\w+)", expression)) <= VARIABLES.keys() | grafanas, title
    for variable in VARIABLES.values():
        assert set(re.findall(r"\$(\w+)", str(variable["query"]))) <= VARIABLES.keys() | grafanas
