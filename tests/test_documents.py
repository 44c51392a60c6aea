"""What the documents name is there: files, headings, places of words, commands."""

import re
from pathlib import Path

import pytest

import run_cluster

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMANDS = {command.callback.__name__ for command in run_cluster.app.registered_commands}
COMMANDS |= {group.name for group in run_cluster.app.registered_groups}
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def headings(path):
    """Anchors of a document's headings, as the public git host makes them."""
    lines = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings_that_are_there(path):
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", path.read_text()):
        found = path.parent / target if target else path
        assert found.exists(), target
        assert not anchor or anchor in headings(found), f"{target}#{anchor}"


@pytest.mark.parametrize("path", [*DOCUMENTS, *CONFIGS], ids=lambda path: path.name)
def test_the_program_has_one_name_and_the_commands_that_it_is_given(path):
    text = path.read_text()
    assert not re.findall(rf"run_cluster\.py (?:{'|'.join(COMMANDS)})\b", text)
    given = set(re.findall(r"(?:^\$? ?|`|#   )cflow-stream +([a-z]\w*)", text, re.MULTILINE))
    assert given <= COMMANDS


def test_every_word_of_the_glossary_is_defined_in_a_place_that_is_there():
    words = (ROOT / "CONTRIBUTING.md").read_text().split("## Words")[1]
    cells = [line.split("|")[-2] for line in words.splitlines() if line.startswith("|")]
    places = [place for cell in cells for place in re.findall(r"`([^`]+)`", cell)]
    assert len(places) > 30
    for place in places:
        module = re.sub(r"\.[A-Z]\w*$", "", place)  # `types.Trouble` is in `types`
        found = [root / name for root in (ROOT / "pipeline", ROOT) for name in (module, f"{module}.py")]
        assert any(path.exists() for path in found), place
