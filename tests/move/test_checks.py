"""The checks before a move: what fails stops it, and says what to do."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url
from tests.servers import Databases

from amphibase.database.url import parse_url
from amphibase.errors import ConfigurationError
from amphibase.move.check import check_sides
from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Role, SqlEndpoint
from amphibase.move.journal import Journal
from amphibase.move.plan import EndPlan, FilesPlan, Plan, TablePlan
from amphibase.move.planning import plan_move
from amphibase.move.quarantine import Quarantine
from amphibase.move.stage import Outcome
from amphibase.move.tables.ranges import RangeCheckpoints
from amphibase.schema.migrations.locations import application_location
from amphibase.settings.application import load_settings

NOTES = "CREATE TABLE notes (id integer PRIMARY KEY, title text)"


class Sides:
    """Two Postgres databases with a table, and the checks between them."""

    def __init__(self, folder: Path, source: str, target: str) -> None:
        self.folder = folder
        self.urls = {Role.SOURCE: source, Role.TARGET: target}
        self.stores = {Role.SOURCE: "file:///here", Role.TARGET: "file:///there"}
        for role in Role:
            self.execute(role, NOTES)

    def execute(self, role: Role, statements: str) -> None:
        with psycopg.connect(self.urls[role], autocommit=True) as connection:
            connection.execute(statements.encode())

    def connect_as(self, role: Role, user: str) -> None:
        """Connect from now on as another user, without rights but those that a test grants."""
        self.execute(role, f"DROP ROLE IF EXISTS {user}; CREATE ROLE {user} LOGIN PASSWORD 'pw'")
        url = make_url(self.urls[role]).set(username=user, password="pw")
        self.urls[role] = url.render_as_string(hide_password=False)

    async def check(
        self, sequences: tuple[str, ...] = (), **options: object
    ) -> set[tuple[Outcome, str, str]]:
        """Return outcome, subject and message of each check."""
        table = {
            "source": "public.notes",
            "target": "public.notes",
            "key": ("id",),
            "columns": {"id": "id", "title": "title"},
            **options,
        }
        end = EndPlan(address="sql:postgresql://db/app")
        plan = Plan(
            name="plan",
            source=end,
            target=end,
            tables=(TablePlan.model_validate(table),),
            files=FilesPlan(buckets=("uploads",)),
            sequences=sequences,
        )
        path = self.folder / "plan.toml"
        source, target = (
            SqlEndpoint(role, parse_url(self.urls[role]), self.stores[role]) for role in Role
        )
        with Journal(path) as journal:
            context = MoveContext(plan, source, target, journal, Quarantine(path))
            checks = await check_sides(context)
        return {(check.outcome, check.subject, check.message) for check in checks}


@pytest.fixture
def sides(databases: Databases, tmp_path: Path) -> Iterator[Sides]:
    with databases.new() as source, databases.new() as target:
        yield Sides(tmp_path, source, target)


def failed(checks: set[tuple[Outcome, str, str]]) -> set[tuple[str, str]]:
    return {(subject, text) for outcome, subject, text in checks if outcome is Outcome.FAIL}


async def test_two_sides_that_fit_pass(sides: Sides) -> None:
    checks = await sides.check()
    assert failed(checks) == set()
    assert (Outcome.PASS, "tables", "1 are on both sides, with the plan's columns") in checks


@pytest.mark.parametrize(
    ("role", "statements", "subject", "words"),
    [
        (Role.TARGET, "DROP TABLE notes", "public.notes", "the target has no such table"),
        (Role.SOURCE, "DROP TABLE notes", "public.notes", "the source has no such table"),
        (
            Role.TARGET,
            "ALTER TABLE notes RENAME title TO heading",
            "public.notes",
            "the target has no column title",
        ),
    ],
)
async def test_what_the_plan_names_and_a_side_lacks_fails(
    sides: Sides, role: Role, statements: str, subject: str, words: str
) -> None:
    sides.execute(role, statements)
    ((where, message),) = failed(await sides.check())
    assert where == subject
    assert words in message


async def test_revisions_that_differ_fail(sides: Sides) -> None:
    for role, head in ((Role.SOURCE, "aaa"), (Role.TARGET, "bbb")):
        sides.execute(role, f"CREATE TABLE alembic_version AS SELECT '{head}'::text AS version_num")
    ((subject, message),) = failed(await sides.check())
    assert subject == "revisions"
    assert "the source is at aaa, the target at bbb" in message


@pytest.mark.parametrize(
    ("revision", "outcome", "words"),
    [
        ("packaged", Outcome.FAIL, "end at latest: run `amphibase db upgrade`"),
        ("latest", Outcome.PASS, "both sides are at latest"),
        ("another", Outcome.WARN, "is not one of the migrations in"),
    ],
)
async def test_both_sides_are_where_the_migrations_of_the_application_end(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, revision: str, outcome: Outcome, words: str
) -> None:
    folder = sides.folder / "migrations"
    folder.mkdir()
    monkeypatch.setenv("MIGRATIONS_DIR", str(folder))
    before = application_location(load_settings()).head()
    (folder / "latest.py").write_text(f"revision = 'latest'\ndown_revision = {before!r}\n")
    for role in Role:
        head = before if revision == "packaged" else revision
        sides.execute(role, f"CREATE TABLE alembic_version AS SELECT '{head}'::text AS version_num")
    found = [check for check in await sides.check() if check[1] == "revisions"]
    assert any(each is outcome and words in message for each, _, message in found)
    assert any(each is Outcome.FAIL for each, *_ in found) == (outcome is Outcome.FAIL)


async def test_a_role_from_which_policies_hide_rows_fails(sides: Sides) -> None:
    sides.execute(Role.SOURCE, "ALTER TABLE notes ENABLE ROW LEVEL SECURITY")
    owner = sides.urls[Role.SOURCE]
    sides.connect_as(Role.SOURCE, "amphibase_test_reader")
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("GRANT SELECT ON notes TO amphibase_test_reader")
        try:
            ((subject, message),) = failed(await sides.check())
        finally:
            connection.execute("DROP OWNED BY amphibase_test_reader")
            connection.execute("DROP ROLE amphibase_test_reader")
    assert subject == "public.notes"
    assert "BYPASSRLS" in message


async def test_a_role_that_may_not_write_the_target_fails(sides: Sides) -> None:
    owner = sides.urls[Role.TARGET]
    sides.connect_as(Role.TARGET, "amphibase_test_writer")
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("GRANT SELECT, INSERT ON notes TO amphibase_test_writer")
        try:
            messages = {message for _, message in failed(await sides.check())}
        finally:
            connection.execute("DROP OWNED BY amphibase_test_writer")
            connection.execute("DROP ROLE amphibase_test_writer")
    assert messages == {
        "the role amphibase_test_writer of the target lacks UPDATE",
        "the role amphibase_test_writer of the target lacks DELETE",
        "the role amphibase_test_writer of the target lacks CREATE on the database, by which "
        "checkpoints get a schema amphibase_move",
    }


async def test_a_role_that_may_use_a_schema_made_for_the_move_needs_none_of_its_own(
    sides: Sides,
) -> None:
    owner = sides.urls[Role.TARGET]
    sides.connect_as(Role.TARGET, "amphibase_test_writer")
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("GRANT ALL ON notes TO amphibase_test_writer")
        connection.execute("CREATE SCHEMA amphibase_move AUTHORIZATION amphibase_test_writer")
        try:
            assert failed(await sides.check()) == set()
            async with await psycopg.AsyncConnection.connect(sides.urls[Role.TARGET]) as writer:
                await RangeCheckpoints("plan").create(writer)
        finally:
            connection.execute("DROP OWNED BY amphibase_test_writer")
            connection.execute("DROP ROLE amphibase_test_writer")


async def test_a_sequence_of_the_plan_that_a_side_lacks_fails(sides: Sides) -> None:
    sides.execute(Role.SOURCE, "CREATE SEQUENCE numbers")
    ((subject, message),) = failed(await sides.check(sequences=("public.numbers",)))
    assert (subject, "the target has no such sequence" in message) == ("public.numbers", True)


@pytest.mark.parametrize("role", list(Role))
async def test_the_rights_to_sequences_and_to_schemas_are_checked(sides: Sides, role: Role) -> None:
    owner = sides.urls[role]
    sides.execute(
        role,
        """
        CREATE SEQUENCE "of notes"; ALTER TABLE notes ALTER id SET DEFAULT nextval('"of notes"');
        CREATE SCHEMA closed; CREATE TABLE closed.notes (LIKE notes); GRANT ALL ON notes TO PUBLIC;
        GRANT SELECT ON closed.notes TO PUBLIC
        """,
    )
    sides.connect_as(role, "amphibase_test_role")
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA amphibase_move AUTHORIZATION amphibase_test_role")
        try:
            of_sequences = failed(await sides.check())
            of_schemas = failed(await sides.check((), **{role.value: "closed.notes"}))
        finally:
            connection.execute("DROP OWNED BY amphibase_test_role")
            connection.execute("DROP ROLE amphibase_test_role")
    lacks = f"the role amphibase_test_role of the {role} lacks"
    rights = {Role.SOURCE: ["SELECT"], Role.TARGET: ["SELECT", "UPDATE"]}[role]
    assert of_sequences == {("public.of notes", f"{lacks} {right}") for right in rights}
    assert ("closed.notes", f"{lacks} USAGE on its schema") in of_schemas


async def test_each_trigger_of_the_target_is_named_with_what_happens_to_it(sides: Sides) -> None:
    sides.execute(
        Role.TARGET,
        """
        CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER a BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION pass();
        CREATE TRIGGER b BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION pass()
        """,
    )
    checks = await sides.check(triggers={"a": "off", "b": "fire"})
    messages = {(outcome, text) for outcome, subject, text in checks if subject == "public.notes"}
    assert messages == {
        (Outcome.PASS, "the trigger a of the target is off for rows that arrive"),
        (Outcome.WARN, "the trigger b of the target fires for rows that arrive"),
    }


async def test_a_trigger_of_another_roles_table_can_only_fire(sides: Sides) -> None:
    sides.execute(
        Role.TARGET,
        """
        CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER a BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION pass()
        """,
    )
    owner = sides.urls[Role.TARGET]
    sides.connect_as(Role.TARGET, "amphibase_test_writer")
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("GRANT ALL ON notes TO amphibase_test_writer")
        connection.execute("CREATE SCHEMA amphibase_move AUTHORIZATION amphibase_test_writer")
        try:
            ((subject, message),) = failed(await sides.check())
            assert failed(await sides.check(triggers={"a": "fire"})) == set()
            connection.execute("ALTER TABLE notes OWNER TO amphibase_test_writer")
            assert failed(await sides.check()) == set()
        finally:
            connection.execute("DROP OWNED BY amphibase_test_writer")
            connection.execute("DROP ROLE amphibase_test_writer")
    assert (subject, '"fire"' in message) == ("public.notes", True)


async def test_one_place_for_the_files_of_both_sides_fails(sides: Sides) -> None:
    sides.stores[Role.TARGET] = sides.stores[Role.SOURCE]
    ((subject, message),) = failed(await sides.check())
    assert (subject, "TARGET_FILES_URL" in message) == ("files", True)


async def test_nothing_moves_to_where_it_is(sides: Sides, tmp_path: Path) -> None:
    sides.urls[Role.TARGET] = sides.urls[Role.SOURCE]
    subjects = {subject for subject, message in failed(await sides.check()) if "ends" in message}
    assert subjects == {"public.notes", "files"}
    url = sides.urls[Role.SOURCE]
    with pytest.raises(ConfigurationError, match="Both ends are sql:postgresql://"):
        await plan_move(f"sql:{url}", f"sql:{url}", tmp_path / "same.toml")


async def test_a_side_that_cannot_be_reached_fails_and_is_named(sides: Sides) -> None:
    url = make_url(sides.urls[Role.TARGET]).set(database="not_there")
    sides.urls[Role.TARGET] = url.render_as_string(hide_password=False)
    ((subject, _),) = failed(await sides.check())
    assert subject == "target"


async def test_the_rights_to_a_table_of_a_schema_with_a_dot_are_checked(sides: Sides) -> None:
    sides.execute(Role.SOURCE, 'CREATE SCHEMA "my.app"; ALTER TABLE notes SET SCHEMA "my.app"')
    sides.execute(Role.SOURCE, 'GRANT USAGE ON SCHEMA "my.app" TO PUBLIC')
    sides.connect_as(Role.SOURCE, "amphibase_reader")
    checks = await sides.check(source="my.app.notes")
    assert (
        Outcome.FAIL,
        "my.app.notes",
        "the role amphibase_reader of the source lacks SELECT",
    ) in checks
