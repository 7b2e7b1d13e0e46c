"""What `env(NAME)` stands for in `supabase/config.toml`."""

from pathlib import Path

import pytest

from amphibase.errors import ConfigurationError
from amphibase.gateway.config_toml import read_config


def test_references_are_found_in_the_files_of_the_supabase_cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "supabase"
    folder.mkdir()
    config = folder / "config.toml"
    config.write_text("[db.vault]\n" + "\n".join(f'{name} = "env({name})"' for name in "ABCDE"))
    (folder / ".env.local").write_text("A=nearest")
    (folder / ".env").write_text("A=no\nB=near\nC=no")
    (tmp_path / ".env.local").write_text("A=beside\nB=no\nD=local")
    (tmp_path / ".env").write_text("D=no\nE=root")
    monkeypatch.setenv("C", "environment")
    assert read_config(config).vault == {
        "A": "nearest", "B": "near", "C": "environment", "D": "local", "E": "root"
    }  # fmt: skip
    monkeypatch.setenv("SUPABASE_ENV", "test")
    (folder / ".env.test").write_text("B=test")
    (folder / ".env.test.local").write_text("D=own")
    assert read_config(config).vault == {
        "A": "no", "B": "test", "C": "environment", "D": "own", "E": "root"
    }, ".env.local is of no test"  # fmt: skip


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    config = tmp_path / "supabase/config.toml"
    config.parent.mkdir()
    config.touch()
    (config.parent / ".env.local").write_bytes(b"A=\xff")
    with pytest.raises(ConfigurationError, match=r"supabase/\.env\.local: is not UTF-8 text$"):
        read_config(config)
