"""A plan names what moves, and with the reason what does not; its file can be read back."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import URL
from tests.gateway.conftest import PASSWORD

from amphibase.database.url import parse_url
from amphibase.errors import ConfigurationError
from amphibase.gateway.project import prepare
from amphibase.move.catalog import (
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    DatabaseCatalog,
    Generated,
    TableName,
)
from amphibase.move.endpoints import Endpoint, Role, SqlEndpoint, SupabaseEndpoint
from amphibase.move.inventory import Inventory, read_inventory
from amphibase.move.plan import Plan, UserColumns, read_plan
from amphibase.move.plan_file import write_plan
from amphibase.move.planning import make_plan, schema_command
from amphibase.postgres.binaries import find_binaries


def sqlite_end(role: Role) -> SqlEndpoint:
    return SqlEndpoint(role, parse_url("sqlite:///app.db"), "file:///files")


def postgres_end(role: Role) -> SqlEndpoint:
    return SqlEndpoint(role, parse_url("postgresql://app:s3cret@db/app"), "file:///files")


def api_end(role: Role) -> SupabaseEndpoint:
    return SupabaseEndpoint(role, "https://abcdefgh.supabase.co", SecretStr("s3cret"))


def table(
    name: str,
    *columns: str | CatalogColumn,
    schema: str | None = None,
    key: tuple[str, ...] = ("id",),
    refers: dict[str, str] | None = None,
    type: str = "integer",
    triggers: tuple[str, ...] = (),
) -> CatalogTable:
    """A table whose columns are of one type; `refers`: column → the table whose `id` it holds."""
    return CatalogTable(
        TableName(schema, name),
        tuple(c if isinstance(c, CatalogColumn) else CatalogColumn(c, type, type) for c in columns),
        key,
        foreign_keys=tuple(
            CatalogForeignKey(column, (column,), TableName(schema, target), ("id",))
            for column, target in (refers or {}).items()
        ),
        triggers=triggers,
    )


def plan_of(
    source: list[CatalogTable],
    target: list[CatalogTable],
    ends: tuple[Endpoint, Endpoint] | None = None,
    others: tuple[tuple[str, str], ...] = (),
) -> Plan:
    here, there = ends or (sqlite_end(Role.SOURCE), postgres_end(Role.TARGET))
    return make_plan(
        "plan",
        Inventory(
            here, DatabaseCatalog(tuple(source), "source", others=others), buckets=("uploads",)
        ),
        Inventory(there, DatabaseCatalog(tuple(target), "target")),
    )


def output_of(command: str, url: URL) -> str:
    """Run the command of a plan as the user of a URL."""
    name, *arguments = shlex.split(command)
    environment = {**os.environ, "PGPASSWORD": url.password or ""}
    return subprocess.run(
        [find_binaries() / name, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


ACCOUNTS = table("users", "id", schema="auth")
PROFILES = table("users", "id", "email", "name", "is_active", "city", schema="public", type="uuid")


def test_tables_of_sqlite_move_to_those_of_public() -> None:
    plan = plan_of(
        [table("notes", "id", "title")], [table("notes", "id", "title", schema="public")]
    )
    (notes,) = plan.tables
    assert (notes.source, notes.target, notes.key) == ("notes", "public.notes", ("id",))
    assert notes.columns == {"id": "id", "title": "title"}


def test_a_table_comes_after_those_that_it_refers_to_even_where_others_form_a_cycle() -> None:
    source = [
        table("a_lines", "id", "order_id", refers={"order_id": "orders"}),
        table("hens", "id", "egg_id", refers={"egg_id": "eggs"}),
        table("eggs", "id", "hen_id", refers={"hen_id": "hens"}),
        table("orders", "id", "parent_id", refers={"parent_id": "orders"}),
    ]
    plan = plan_of(source, source)
    order = [each.source for each in plan.tables]
    assert order.index("orders") < order.index("a_lines")
    assert sorted(order) == ["a_lines", "eggs", "hens", "orders"]


def test_what_has_no_counterpart_is_named_with_the_reason() -> None:
    computed = CatalogColumn("total", "integer", "integer", generated=Generated.STORED)
    plan = plan_of(
        [table("notes", "id", "old", "total"), table("logs", "id"), table("no_key", "id", key=())],
        [
            table("notes", "id", computed, schema="public"),
            table("no_key", "id", key=(), schema="public"),
        ],
        (sqlite_end(Role.SOURCE), api_end(Role.TARGET)),
        others=(("view", "recent"),),
    )
    assert [each.source for each in plan.tables] == ["notes"]
    assert plan.tables[0].columns == {"id": "id"}
    reasons = {each.what: each.reason for each in plan.not_moved}
    assert "migrations" in reasons["table logs"]
    assert "no key" in reasons["table no_key"]
    assert "rename" in reasons["column notes.old"]
    assert "migrations" in reasons["view recent"]


def test_what_belongs_to_supabase_and_amphibase_is_no_table_of_the_plan() -> None:
    own = [
        ACCOUNTS,
        table("objects", "id", schema="storage"),
        table("alembic_version", "version_num", schema="public"),
    ]
    plan = plan_of(own, own, (postgres_end(Role.SOURCE), postgres_end(Role.TARGET)))
    assert plan.tables == ()
    assert plan.accounts is not None
    assert plan.files is not None
    assert plan.files.buckets == ("uploads",)


def test_a_users_table_that_knows_nothing_of_amphibase_becomes_accounts_and_profiles() -> None:
    people = table("users", "id", "email", "password_hash", "name", "is_active", "created_at")
    posts = table("posts", "id", "author_id", refers={"author_id": "users"})
    target = [ACCOUNTS, PROFILES, table("posts", "id", "author_id", schema="public")]
    plan = plan_of([people, posts], target)
    assert plan.accounts is not None
    assert plan.accounts.table == "users"
    assert plan.accounts.columns == UserColumns(
        id="id",
        email="email",
        password_hash="password_hash",
        is_active="is_active",
        created_at="created_at",
    )
    assert plan.mappings["users"].column == "id"
    profiles, moved = plan.tables
    names = ("id", "email", "name", "is_active")
    assert profiles.columns == dict(zip(names, names, strict=True))
    assert profiles.ids == {"id": "users"}
    assert moved.ids == {"author_id": "users"}


def test_ids_that_are_uuids_already_stay_and_administrators_are_not_made_by_themselves() -> None:
    """The table of fastapi-users on SQLite."""
    id = CatalogColumn("id", "CHAR(36)", "CHAR(36)")
    flags = ("is_active", "is_verified", "is_superuser")
    people = table("user", id, "email", "hashed_password", *flags)
    plan = plan_of([people], [ACCOUNTS, PROFILES])
    assert plan.accounts is not None
    assert plan.accounts.columns == UserColumns(
        id="id",
        email="email",
        password_hash="hashed_password",
        is_active="is_active",
        is_confirmed="is_verified",
    )
    assert plan.mappings == {}
    assert plan.tables[0].ids == {}
    assert [(each.what, "is_admin =" in each.reason) for each in plan.not_moved] == [
        ("column user.is_superuser", True)
    ]


def test_what_amphibase_makes_of_the_models_on_each_side_is_not_named() -> None:
    others = (
        ("function", "public.amphibase_set_updated_at()"),
        ("policy", "amphibase_notes_select on public.notes"),
        ("policy", "own on storage.objects"),
        ("function", "auth.uid()"),
        ("function", 'pgmq."create"(queue_name text)'),
        ("function", "public.total(integer)"),
        ("policy", "own on public.notes"),
    )
    notes = table("notes", "id", schema="public", triggers=("amphibase_set_updated_at", "mine"))
    queues = [table("meta", "queue_name", schema="pgmq"), table("q_orders", "id", schema="pgmq")]
    plan = plan_of([notes, *queues], [notes], others=others)
    assert [each.what for each in plan.not_moved] == [
        "table pgmq.q_orders",
        "policy own on storage.objects",
        "function public.total(integer)",
        "policy own on public.notes",
        "trigger mine on public.notes",
    ]


def test_what_people_have_put_on_supabases_tables_is_named_and_no_pg_dump_has_it() -> None:
    users = table("users", "id", schema="auth", triggers=("on_auth_user_created",))
    objects = table("objects", "id", schema="storage", triggers=("update_objects_updated_at",))
    others = (
        ("policy", "own on storage.objects"),
        ("policy", "listen on realtime.messages"),
        ("policy", "cron_job_policy on cron.job"),
        ("view", "public.recent"),
    )
    ends = (postgres_end(Role.SOURCE), postgres_end(Role.TARGET))
    plan = plan_of([users, objects], [users, objects], ends, others=others)
    assert [(each.what, "pg_dump" in each.reason) for each in plan.not_moved] == [
        ("policy own on storage.objects", False),
        ("policy listen on realtime.messages", False),
        ("view public.recent", True),
        ("trigger on_auth_user_created on auth.users", False),
    ]


def test_what_sqlite_cannot_have_is_named_without_a_pg_dump_that_it_would_not_read() -> None:
    others = (("function", "public.total(integer)"), ("view", "public.recent"))
    ends = (postgres_end(Role.SOURCE), sqlite_end(Role.TARGET))
    assert schema_command(*ends) is None
    assert [each.reason for each in plan_of([], [], ends, others=others).not_moved] == [
        "SQLite has no such objects",
        "the target's own migrations create it",
    ]


async def test_nothing_that_a_local_project_makes_by_itself_is_named_or_dumped(
    postgres_url: str,
) -> None:
    await prepare(postgres_url, PASSWORD)
    url = parse_url(postgres_url)
    source = SqlEndpoint(Role.SOURCE, url, "file:///files")
    inventory = await read_inventory(source, "plan")
    assert make_plan("plan", inventory, inventory).not_moved == ()
    command = schema_command(source, postgres_end(Role.TARGET))
    created = re.findall(r"^CREATE (?:SCHEMA|FUNCTION) (\w+)", output_of(command or "", url), re.M)
    assert set(created) == {"pgmq"}


def test_a_column_that_refers_to_another_one_than_the_mapped_ids_keeps_its_values() -> None:
    people = table("people", "id", "number")
    there = table("people", "id", "number", schema="public", type="uuid")
    badges = CatalogTable(
        TableName(None, "badges"),
        table("badges", "id", "person", "number").columns,
        ("id",),
        foreign_keys=(
            CatalogForeignKey("a", ("person",), TableName(None, "people"), ("id",)),
            CatalogForeignKey("b", ("number",), TableName(None, "people"), ("number",)),
        ),
    )
    other = table("badges", "id", "person", "number", schema="public")
    plan = plan_of([people, badges], [there, other])
    assert {each.source: each.ids for each in plan.tables} == {
        "people": {"id": "people"},
        "badges": {"person": "people"},
    }


def test_tables_of_one_name_and_names_that_are_taken_have_mappings_of_their_own() -> None:
    source = [
        table("orders", "id", schema="public"),
        table("orders", "id", schema="shop"),
        table("lines", "id", "order", schema="shop", refers={"order": "orders"}),
    ]
    target = [
        table("orders", "id", schema="public", type="uuid"),
        table("orders", "id", schema="shop", type="uuid"),
        table("lines", "id", "order", schema="shop"),
        table("orders_ids", "number", schema="public", key=("number",)),
    ]
    plan = plan_of(source, target, (postgres_end(Role.SOURCE), postgres_end(Role.TARGET)))
    mappings = {name: (each.source, each.table) for name, each in plan.mappings.items()}
    assert mappings == {
        "orders": ("public.orders", "old_orders_ids"),
        "shop.orders": ("shop.orders", "old_old_orders_ids"),
    }
    assert {each.source: each.ids for each in plan.tables} == {
        "public.orders": {"id": "orders"},
        "shop.orders": {"id": "shop.orders"},
        "shop.lines": {"order": "shop.orders"},
    }


def test_sequences_that_no_column_counts_by_go_on_where_both_sides_have_them(
    tmp_path: Path,
) -> None:
    numbers, lost = TableName("public", "numbers"), TableName("a", "b")
    own = TableName("auth", "c")
    ends = (postgres_end(Role.SOURCE), postgres_end(Role.TARGET))
    plan = make_plan(
        "plan",
        Inventory(ends[0], DatabaseCatalog((), "source", sequences=(numbers, lost, own))),
        Inventory(ends[1], DatabaseCatalog((), "target", sequences=(numbers, own))),
    )
    assert plan.sequences == ("public.numbers",)
    assert [each.what for each in plan.not_moved] == ["sequence a.b"]
    write_plan(plan, tmp_path / "plan.toml")
    assert read_plan(tmp_path / "plan.toml") == plan


def test_triggers_of_the_target_are_off_unless_the_plan_is_edited() -> None:
    there = table("notes", "id", schema="public", triggers=("touch", "notify"))
    plan = plan_of([table("notes", "id")], [there])
    assert plan.tables[0].triggers == {"touch": "off", "notify": "off"}


def test_a_plan_reads_back_from_its_file_and_holds_no_secret(tmp_path: Path) -> None:
    people = table("users", "id", "email", "password_hash", "name")
    odd = table('odd "name', "id", "a.b", "ünï\\code", "ref", refers={"ref": "users"})
    there = [
        ACCOUNTS,
        PROFILES,
        table('odd "name', "id", "a.b", "ünï\\code", "ref", schema="public"),
    ]
    ends = (postgres_end(Role.SOURCE), postgres_end(Role.TARGET))
    plan = plan_of([people, odd], there, ends, others=(("view", "v"), ("function", "f(text)")))
    path = tmp_path / "plan.toml"
    write_plan(plan, path, schema_command(*ends))
    assert read_plan(path) == plan
    assert "s3cret" not in path.read_text()
    assert "# pg_dump --schema-only" in path.read_text()
    with pytest.raises(ConfigurationError, match="exists already"):
        write_plan(plan, path)


TABLE = """
[[tables]]
source = "notes"
target = "notes"
key = ["id"]
columns = {id = "id", title = "title"}
"""
MAPPING = """
[mappings.users]
source = "users"
column = "id"
table = "user_ids"
namespace = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE + TABLE, "sources of tables: notes is named 2 times"),
        (
            TABLE + TABLE.replace('source = "notes"', 'source = "other"'),
            "targets of tables: notes is named 2 times",
        ),
        (TABLE.replace('title = "title"', 'title = "id"'), "id is named 2 times"),
        (TABLE + 'ids = {id = "users"}', "id by users, which is not in mappings"),
        (MAPPING + TABLE + 'ids = {author = "users"}', "author, which is not in columns"),
        (MAPPING.replace("6ba7b810-", ""), "mappings.users.namespace: .* is no UUID"),
        ("# \xff", "is not a text in UTF-8"),
    ],
)
def test_a_plan_that_contradicts_itself_is_rejected(
    text: str, message: str, tmp_path: Path
) -> None:
    head = 'name = "p"\n[source]\naddress = "sql:a"\n[target]\naddress = "sql:b"\n'
    path = tmp_path / "plan.toml"
    path.write_bytes((head + text).encode("latin-1"))
    with pytest.raises(ConfigurationError, match=f"{path}: .*{message}"):
        read_plan(path)
