"""CONTRIBUTING names what is there."""

import ast
import re
from pathlib import Path

import pytest

import amphibase

ROOT = Path(__file__).parents[1]
PACKAGE = Path(amphibase.__file__).parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PLACES = re.findall(r"`([\w/]+\.py)`: `(\w+)`", TEXT)
PATHS = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?|[a-z]+\.py)`", TEXT)


def test_every_package_is_in_the_map() -> None:
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert packages <= set(PATHS)


@pytest.mark.parametrize("name", sorted(set(PATHS)))
def test_every_path_exists(name: str) -> None:
    places = (ROOT, PACKAGE, PACKAGE / "gateway")
    assert any((place / name).exists() for place in places), name


@pytest.mark.parametrize(("path", "symbol"), PLACES)
def test_each_response_in_the_map_names_a_function_that_exists(path: str, symbol: str) -> None:
    tree = ast.parse((PACKAGE / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert symbol in {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_the_five_questions_are_there() -> None:
    assert len(PLACES) >= 5
