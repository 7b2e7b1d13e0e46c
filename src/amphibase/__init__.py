"""One data backend for FastAPI, on your own SQL database or on Supabase.

The public names are those of `__init__.pyi`, which type checkers read. Here each name's module is
imported when the name is first used (PEP 562): `amphibase --help` waits for neither FastAPI nor
SQLAlchemy.
"""

import ast
import importlib
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _modules() -> dict[str, str]:
    """The module of each public name, as the stub imports it."""
    stub = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    return {
        alias.name: node.module
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_modules())
    module = _modules().get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_modules()})
