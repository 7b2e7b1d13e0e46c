"""The file of rejected rows."""

from pathlib import Path

from amphibase.move.quarantine import Quarantine


def test_a_row_that_was_half_written_is_left_out_and_those_around_it_stay(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    Quarantine(plan).add("notes", ["1"], {"id": "1"}, "too long")
    with (tmp_path / "plan.quarantine.jsonl").open("a") as file:
        file.write('{"table": "notes", "key": ["2"], "rea')
    quarantine = Quarantine(plan)
    assert quarantine.rows() == 1
    quarantine.add("posts", ["3"], {"id": "3"}, "too short")
    assert (quarantine.keys("notes"), quarantine.keys("posts")) == ({("1",)}, {("3",)})
    quarantine.clear("notes")
    assert (quarantine.keys("notes"), quarantine.rows()) == (set(), 1)
    assert [each.name for each in tmp_path.iterdir()] == ["plan.quarantine.jsonl"]
    assert quarantine.path.stat().st_mode & 0o777 == 0o600
