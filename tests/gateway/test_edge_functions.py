"""The edge functions of a project are named, since none of them runs."""

from pathlib import Path

from amphibase.gateway.edge_functions import edge_functions


def test_functions_are_the_folders_with_an_index(tmp_path: Path) -> None:
    for name in (
        "hello/index.ts",
        "hello/index.html",
        "pay/index.js",
        "_shared/index.ts",
        "x/y.ts",
    ):
        path = tmp_path / "functions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert edge_functions(tmp_path) == ["hello", "pay"]
    assert edge_functions(tmp_path / "missing") == []
