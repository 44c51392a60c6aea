"""`model set`, `back` and `show` as a person or a script sees them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from pipeline.errors import BadInputError, RunError

Ask = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Sends a request to the run; gives its answer."""

_LOOK_EVERY_S = 0.5
_DIGITS = 12


def change_model(ask: Ask, request: Mapping[str, Any], *, out: Console, err: Console) -> None:
    """Ask for another model, and wait until it scores.

    Args:
        ask: asks the run.
        request: for the change.
        out: for the result.
        err: for what happens meanwhile.

    Raises:
        BadInputError: the run refuses it, or is gone.
        RunError: its detectors did not come up, and the model before goes on; or somebody asked for yet another one.
    """
    begun = ask(request)
    told = begun["said"]
    _say(err, told)
    while True:
        shown = ask({"do": "model show"})
        model = shown["model"]
        if shown["change"] != begun["change"]:
            raise RunError("another model was asked for meanwhile; `model show` says how the run stands")
        if shown["refused"]:
            raise BadInputError(shown["refused"])
        if not shown["reading"]:
            if model["failure"]:
                raise RunError(f"{model['failure']}; the run goes on with {model['fingerprint'][:_DIGITS]}")
            if model["phase"] == "in use":
                break
        line = "it is read and checked" if shown["reading"] else _in_words(model)
        if line != told:
            _say(err, line)
        told = line
        time.sleep(_LOOK_EVERY_S)
    for warning in shown["warnings"]:
        err.print(f"warning: {warning}", markup=False, highlight=False, style="yellow")
    back = f"; `model back` returns to {model['before'][:_DIGITS]}" if model["before"] else ""
    out.print(f"{_in_words(model)}{back}", markup=False, highlight=False)


def show_model(ask: Ask, *, as_json: bool, out: Console) -> None:
    """Print by which model a run scores, and how a change stands.

    Args:
        ask: asks the run.
        as_json: one JSON object.
        out: for it.

    Raises:
        BadInputError: no run is there.
    """
    shown = ask({"do": "model show"})
    if as_json:
        out.file.write(json.dumps({**shown["model"], "reading": shown["reading"], "refused": shown["refused"]}) + "\n")
        return
    lines = [_in_words(shown["model"])]
    lines += ["another one is read and checked"] if shown["reading"] else []
    lines += [f"the last change was refused: {shown['refused']}"] if shown["refused"] else []
    lines += [f"the last change was given up: {shown['model']['failure']}"] if shown["model"]["failure"] else []
    for line in lines:
        _say(out, line)


def _in_words(model: Mapping[str, Any]) -> str:
    name, coming, before = (model[key][:_DIGITS] for key in ("fingerprint", "coming", "before"))
    if model["phase"] == "loading":
        return f"model {coming} is loaded beside {name}"
    if model["phase"] == "taking over":
        return f"model {name} takes over from {before}"
    return f"model {name} ({model['place']}) scores all cameras"


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False)
