"""The stage of tables between two Postgres databases."""

from pathlib import Path

from tests.move.tables import Side, moved, opened
from tests.move.test_constraints import dump
from tests.move.two_databases import TwoDatabases

from amphibase.move.catalog import TableName
from amphibase.move.plan import EndPlan, Plan, TablePlan
from amphibase.move.stage import Outcome, PreflightCheck
from amphibase.move.tables.constraints import Constraints
from amphibase.move.tables.stage import TablesStage

COUNTED = """
CREATE TABLE t (id bigserial PRIMARY KEY, n int);
CREATE TABLE log (name text);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO log VALUES (tg_name); RETURN new; END';
"""
TRIGGERS = """
CREATE TRIGGER off AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION log();
CREATE TRIGGER fire AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION log();
"""
CIRCLE = """
CREATE TABLE a (id int PRIMARY KEY, b int NOT NULL);
CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL REFERENCES a);
"""
CLOSED = "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b"


def sides_of(databases: TwoDatabases) -> tuple[Side, Side]:
    source, target = (
        Side(each.url.set(drivername="postgresql").render_as_string(hide_password=False))
        for each in (databases.source, databases.target)
    )
    return source, target


def plan_of(databases: TwoDatabases, *tables: TablePlan) -> Plan:
    source, target = (EndPlan(address=f"sql:{side.url}") for side in sides_of(databases))
    return Plan(name="p", source=source, target=target, tables=tables)


def table(name: str, *columns: str, **options: dict[str, str]) -> TablePlan:
    columns_there = {column: column for column in columns}
    name = f"public.{name}"
    return TablePlan.model_validate(
        {"source": name, "target": name, "key": ("id",), "columns": columns_there, **options}
    )


async def test_triggers_fire_for_rows_that_arrive_where_the_plan_says_so_alone(
    two_databases: TwoDatabases, tmp_path: Path
) -> None:
    two_databases.run(COUNTED)
    two_databases.source.run("INSERT INTO t (n) VALUES (1)")
    two_databases.target.run(TRIGGERS)
    plan = plan_of(two_databases, table("t", "id", "n", triggers={"fire": "fire"}))
    async with opened(plan, tmp_path, *sides_of(two_databases)) as stage:
        await stage.run()
        two_databases.source.run("INSERT INTO t (n) VALUES (2)")
        assert await stage.reconcile() == 1
    assert two_databases.target.rows("SELECT name FROM log") == [("fire",), ("fire",)]
    two_databases.target.run("TRUNCATE log; INSERT INTO t (n) VALUES (3)")
    assert two_databases.target.rows("SELECT name FROM log ORDER BY 1") == [("fire",), ("off",)]


async def test_counters_are_set_and_one_that_is_behind_is_a_difference(
    two_databases: TwoDatabases, tmp_path: Path
) -> None:
    two_databases.run(COUNTED)
    two_databases.source.run("INSERT INTO t (n) VALUES (1), (2)")
    async with opened(
        plan_of(two_databases, table("t", "id", "n")), tmp_path, *sides_of(two_databases)
    ) as stage:
        assert await moved(stage)
        assert two_databases.target.value("SELECT last_value FROM t_id_seq") == 2
        assert await messages(stage) == []
        two_databases.source.run("SELECT nextval('t_id_seq')")
        assert await messages(stage) == ["the counter of id is behind; run again"]


async def messages(stage: TablesStage) -> list[str]:
    return [each.message for each in (await stage.verify()).differences]


async def test_tables_in_a_cycle_in_which_nothing_may_be_null_arrive(
    two_databases: TwoDatabases, tmp_path: Path
) -> None:
    two_databases.run(CIRCLE)
    two_databases.source.run("INSERT INTO a VALUES (1, 2); INSERT INTO b VALUES (2, 1)")
    two_databases.run(CLOSED)
    plan = plan_of(two_databases, table("a", "id", "b"), table("b", "id", "a"))
    async with opened(plan, tmp_path, *sides_of(two_databases)) as stage:
        assert await moved(stage)
    assert two_databases.target.texts("a") == ["(1,2)"]
    assert two_databases.target.texts("b") == ["(2,1)"]


async def test_a_key_that_a_killed_run_left_off_is_a_difference_until_a_run_puts_it_back(
    two_databases: TwoDatabases, tmp_path: Path
) -> None:
    two_databases.run(COUNTED)
    t = TableName("public", "t")
    async with opened(
        plan_of(two_databases, table("t", "id", "n")), tmp_path, *sides_of(two_databases)
    ) as stage:
        assert await moved(stage)
        constraints = Constraints(two_databases.target.url, stage._context.journal)
        await constraints.take_off([t], large=[t])
        assert await messages(stage) == ["t_pkey is not back on the target; run again"]
        await stage.run()
        assert await messages(stage) == []


FAMILY = """
CREATE TABLE families (id int PRIMARY KEY);
CREATE TABLE children (
    id int PRIMARY KEY, family int NOT NULL REFERENCES families,
    family_again int NOT NULL REFERENCES families
);
INSERT INTO families SELECT * FROM generate_series(1, 50);
INSERT INTO children SELECT n, n, n FROM generate_series(1, 50) n;
"""


async def killed_while_keys_are_off(
    two_databases: TwoDatabases, stage: TablesStage, *names: str
) -> None:
    """Leave things as a kill does during the copy of large tables."""
    tables = [TableName("public", name) for name in names]
    await Constraints(two_databases.target.url, stage._context.journal).take_off(
        tables, large=tables
    )
    for name in names:
        stage._context.journal.put("table", f"public.{name}", "begun")


async def test_a_run_goes_on_after_a_kill_that_left_keys_and_foreign_keys_off(
    two_databases: TwoDatabases, tmp_path: Path
) -> None:
    two_databases.run(FAMILY)
    two_databases.target.run("TRUNCATE children, families")
    before = dump(two_databases.target)
    plan = plan_of(
        # A plan that somebody has put into another order.
        two_databases,
        table("children", "id", "family", "family_again"),
        table("families", "id"),
    )
    ends = sides_of(two_databases)
    async with opened(plan, tmp_path, *ends) as stage:
        await killed_while_keys_are_off(two_databases, stage, "children", "families")
    async with opened(plan, tmp_path, *ends) as stage:
        assert failures(await stage.check()) == []
        await stage.run()
        # Only who knows the foreign keys again writes these in an order that they allow.
        two_databases.source.run(
            "INSERT INTO families VALUES (99); INSERT INTO children VALUES (99, 99, 99)"
        )
        assert await stage.reconcile() == 2
        assert (await stage.verify()).differences == []
        await stage.finish()
    assert dump(two_databases.target) == before


async def test_an_undo_after_such_a_kill_puts_the_keys_back_and_deletes_in_their_order(
    two_databases: TwoDatabases, tmp_path: Path
) -> None:
    two_databases.run(FAMILY)
    before = dump(two_databases.target)
    plan = plan_of(
        two_databases,
        table("children", "id", "family", "family_again"),
        table("families", "id"),
    )
    async with opened(plan, tmp_path, *sides_of(two_databases)) as stage:
        await killed_while_keys_are_off(two_databases, stage, "children", "families")
    async with opened(plan, tmp_path, *sides_of(two_databases)) as stage:
        assert [kept async for kept in stage.undo()] == []
    assert two_databases.target.rows("SELECT FROM families") == []
    assert dump(two_databases.target) == before


def failures(checks: list[PreflightCheck]) -> list[str]:
    return [check.message for check in checks if check.outcome is Outcome.FAIL]


TOUCHED = """
CREATE TABLE touched (id int PRIMARY KEY, parent int REFERENCES touched, changes int DEFAULT 0);
CREATE FUNCTION count_changes() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN new.changes = old.changes + 1; RETURN new; END';
CREATE TRIGGER count_changes BEFORE UPDATE ON touched
    FOR EACH ROW EXECUTE FUNCTION count_changes();
INSERT INTO touched SELECT n, 1 FROM generate_series(1, 20) n;
"""


async def test_an_undo_is_not_kept_from_rows_by_a_trigger_that_counts_its_own_changes(
    two_databases: TwoDatabases, tmp_path: Path
) -> None:
    two_databases.run(TOUCHED)
    two_databases.target.run("DELETE FROM touched")
    before = dump(two_databases.target)
    plan = plan_of(two_databases, table("touched", "id", "parent", "changes"))
    async with opened(plan, tmp_path, *sides_of(two_databases)) as stage:
        assert await moved(stage)
        assert [kept async for kept in stage.undo()] == []
        await stage.finish()
    assert two_databases.target.rows("SELECT FROM touched") == []
    assert dump(two_databases.target) == before


async def test_a_sequence_of_the_plan_goes_on_and_one_that_is_behind_is_a_difference(
    two_databases: TwoDatabases, tmp_path: Path
) -> None:
    two_databases.run("CREATE SEQUENCE numbers")
    two_databases.source.run("SELECT setval('numbers', 70)")
    plan = plan_of(two_databases).model_copy(update={"sequences": ("public.numbers",)})
    async with opened(plan, tmp_path, *sides_of(two_databases)) as stage:
        assert await messages(stage) == ["the sequence is behind; run again"]
        assert await moved(stage)
    assert two_databases.target.value("SELECT nextval('numbers')") == 71
