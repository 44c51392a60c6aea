"""timm, imported without torch's compiler.

timm imports torchvision, which imports the compiler (``torch._dynamo``, and with it sympy and most of inductor) for one
function that few of its operators ask; timm itself asks the compiler to leave one method alone. An encoder that runs as
it stands needs neither. Both are put off until somebody does, which spares every process that loads a model a third of
the time until it has: 1.7 s instead of 2.5 in a trial.

Whatever else other versions want of the compiler while they are imported, they get: it is imported then, as ever.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

_UTILS = "torch._dynamo.utils"

__all__ = ["timm"]


class _CompilerUtils(ModuleType):
    """Stands where the compiler's module will be, and is it as soon as more of it is wanted than one function."""

    def is_compile_supported(self, device_type: str) -> Any:
        """What the compiler says; imports it."""
        return _real_utils().is_compile_supported(device_type)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system looks for these in every module
            raise AttributeError(name)
        return getattr(_real_utils(), name)


def _real_utils() -> ModuleType:
    if isinstance(sys.modules.get(_UTILS), _CompilerUtils):
        del sys.modules[_UTILS]
    return importlib.import_module(_UTILS)


def _left_alone(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """As ``torch.compiler.disable``, which imports the compiler only to leave this mark for it."""
    if function is None:
        return _left_alone
    function._torchdynamo_disable = True  # pyright: ignore[reportFunctionMemberAccess]
    return function


@contextmanager
def _compiler_put_off() -> Iterator[None]:
    if "torch._dynamo" in sys.modules:
        yield
        return
    disable = torch.compiler.disable
    sys.modules[_UTILS] = _CompilerUtils(_UTILS)
    torch.compiler.disable = _left_alone
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if isinstance(sys.modules.get(_UTILS), _CompilerUtils):
            del sys.modules[_UTILS]


with _compiler_put_off():
    import timm
