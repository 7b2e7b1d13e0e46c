"""`amphibase files`, as a user runs it."""

import os
from pathlib import Path

from tests.cli.test_commands import Run, run

__all__ = ["run"]


def test_files_are_put_listed_fetched_and_removed(run: Run, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "report.bin").write_bytes(content)
    put = run("files", "put", "report.bin", "uploads/2026/")
    assert put.returncode == 0, put.stderr
    assert "uploads/2026/report.bin has 3.0 MB" in put.stdout
    again = run("files", "put", "report.bin", "uploads/2026/report.bin")
    assert (again.returncode, again.stderr.strip()) == (
        1,
        "error There is a file with this path already",
    )
    listed = run("files", "ls", "uploads/2026")
    assert "2026/report.bin" in listed.stdout
    got = run("files", "get", "uploads/2026/report.bin", "copy.bin")
    assert got.returncode == 0, got.stderr
    assert (tmp_path / "copy.bin").read_bytes() == content
    assert run("files", "get", "uploads/2026/report.bin", "copy.bin").returncode == 1
    assert run("files", "rm", "uploads/2026/report.bin", "--yes").returncode == 0
    missing = run("files", "get", "uploads/2026/report.bin", "gone.bin")
    assert missing.returncode == 1
    assert missing.stderr.strip() == "error There is no such file: uploads/2026/report.bin"
    assert list(tmp_path.glob(".*report*")) == []


def test_the_sweep_deletes_what_no_row_names(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "files" / "ab"
    folder.mkdir(parents=True)
    (folder / "00000000-0000-7000-8000-0000000000ab").write_bytes(b"x")
    result = run("files", "sweep", "--dry-run", "--grace", "0")
    assert result.returncode == 0, result.stderr
    finding, summary = result.stdout.splitlines()
    assert finding.startswith("orphan  ")
    assert summary == "1 without a row; 0 rows without bytes"
    swept = run("files", "sweep", "--grace", "0")
    assert "1 without a row, deleted; 0 rows without bytes" in swept.stdout
    assert list(folder.iterdir()) == []


def test_rows_whose_bytes_are_gone_are_reported(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    assert run("files", "put", "a.txt", "uploads/a.txt").returncode == 0
    (blob,) = (tmp_path / "data" / "files").glob("??/*")
    blob.unlink()
    result = run("files", "sweep")
    assert result.returncode == 1
    assert "lost  uploads/a.txt  5 bytes" in result.stdout
    assert run("files", "sweep", "--lost").returncode == 0
    assert run("files", "sweep").returncode == 0


def test_a_place_that_is_none_is_a_line(run: Run) -> None:
    done = run("files", "get", "uploads")
    assert done.returncode == 2
    assert done.stderr.startswith("error 'uploads' names no file")
    wrong = run("files", "ls", FILES_URL="ftp://x/y")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error FILES_URL: must name a place in file:///")
