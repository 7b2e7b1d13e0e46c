"""Values between two SQLite databases, which keeps any kind of value in any column."""

from pathlib import Path

from tests.move.tables import Side, moved, opened, plan_of

from amphibase.move.plan import TablePlan

TYPES = ("", "TEXT", "BLOB", "INTEGER", "REAL", "NUMERIC(9, 2)", "DATETIME", "BOOLEAN", "JSON")
VALUES = (
    "NULL", "5", "-0.0", "2.5", "1e300", "9e999", "9223372036854775807", "''", "'5'", "' 5'", "'t'",
    "'2024-01-01T00:00:00Z'", "'{\"b\": 1.0}'", "x''", "x'00ff'", "x'35'", "char(64976) || 'int 5'",
)  # fmt: skip


async def test_values_of_every_kind_stay_as_they_are_stored(tmp_path: Path) -> None:
    source, target = (Side(f"sqlite:///{tmp_path}/{place}.db") for place in ("here", "there"))
    names = [f"c{place}" for place in range(len(TYPES))]
    columns = ", ".join(f"{name} {type}" for name, type in zip(names, TYPES, strict=True))
    for side in (source, target):
        side.run(f"CREATE TABLE things (id, kind TEXT, {columns}, PRIMARY KEY (id, kind))")
    for value in VALUES[1:]:
        key = f"{value}, typeof({value})"
        source.run(f"INSERT INTO things VALUES ({key}, {', '.join([value] * len(TYPES))})")
    source.run(f"INSERT INTO things VALUES (0, 'null', {', '.join(['NULL'] * len(TYPES))})")
    things = TablePlan(
        source="things",
        target="things",
        key=("id", "kind"),
        columns={name: name for name in ("id", "kind", *names)},
    )
    plan = plan_of(source, target).model_copy(update={"tables": (things,)})
    kinds = ", ".join(f"typeof({name}), quote({name})" for name in ("id", *names))
    query = f"SELECT {kinds} FROM things ORDER BY id, kind"
    async with opened(plan, tmp_path, source, target) as stage:
        assert await moved(stage)
        assert target.rows(query) == source.rows(query)
        assert len(target.rows(query)) == len(VALUES)
        target.run("UPDATE things SET c0 = '5' WHERE typeof(c0) = 'integer' AND c0 = 5")
        assert [each.message for each in (await stage.verify()).differences] == ["differs: c0"]
        assert await stage.reconcile() == 1
        assert target.rows(query) == source.rows(query)
        assert [kept async for kept in stage.undo()] == []
    assert target.rows("SELECT * FROM things") == []
