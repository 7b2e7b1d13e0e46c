"""Docstrings of public functions begin with a verb (PEP 257)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import amphibase

PACKAGE = Path(amphibase.__file__).parent

NO_VERBS = frozenset(
    {"a", "all", "an", "as", "by", "each", "every", "files", "how", "its", "one", "the", "this"}
    | {"values", "what", "where", "whether", "which", "who", "whom", "whose"}
)


def functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the public functions and methods, but properties, whose docstrings name a value."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = [ast.unparse(each) for each in child.decorator_list]
            is_property = any("property" in each for each in decorators)
            if not (child.name.startswith("_") or is_property):
                yield child
        elif isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from functions(child)


def test_docstrings_begin_with_a_verb() -> None:
    nouns = [
        f"{path.relative_to(PACKAGE)}: {function.name}: {text.splitlines()[0]}"
        for path in PACKAGE.rglob("*.py")
        for function in functions(ast.parse(path.read_text()))
        if (text := ast.get_docstring(function))
        and (text.startswith("`") or text.split()[0].lower().rstrip("s'") in NO_VERBS)
    ]
    assert nouns == []
