"""Migrations and seeds: split into statements as psql does, applied as the Supabase CLI does."""

import asyncio
import gzip
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.gateway.conftest import ProjectDatabase
from tests.gateway.statements import ask

from amphibase.errors import ConfigurationError
from amphibase.gateway.migrations import apply
from amphibase.gateway.sql_script import split


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("", []),
        ("-- only a remark; nothing else\n", []),
        (";; select 1 ;", ["select 1"]),
        ("select ';', \";\"; select 2", ["select ';', \";\"", "select 2"]),
        ("select 'it''s;'; select 2", ["select 'it''s;'", "select 2"]),
        (r"select E'it\'s;'; select 2", [r"select E'it\'s;'", "select 2"]),
        (r"select '\'; select 2", [r"select '\'", "select 2"]),
        ("select $$;$$; select 2", ["select $$;$$", "select 2"]),
        ("do $a$ begin $$;$$; end $a$; select 2", ["do $a$ begin $$;$$; end $a$", "select 2"]),
        ("select a$1; select 2", ["select a$1", "select 2"]),
        ("select 1 /* ; /* ; */ ; */; select 2", ["select 1 /* ; /* ; */ ; */", "select 2"]),
        ("select 1 -- ;\n, 2; select 3", ["select 1 -- ;\n, 2", "select 3"]),
        (
            "create rule r as on insert to t do (select 1; select 2); select 3",
            ["create rule r as on insert to t do (select 1; select 2)", "select 3"],
        ),
        (
            "create function f() returns int begin atomic select case when a then 1 end; end;"
            " select 2",
            [
                "create function f() returns int begin atomic select case when a then 1 end; end",
                "select 2",
            ],
        ),
        ("begin; select 1; end; select 2", ["begin", "select 1", "end", "select 2"]),
        ("select 'without an end;", ["select 'without an end;"]),
    ],
)
def test_a_script_is_split_where_psql_splits_it(script: str, statements: list[str]) -> None:
    assert [statement.text for statement in split(script)] == statements


def test_a_statement_knows_its_line() -> None:
    script = "-- one\nselect 1;\n\n/* four\n five */ select\n2;\nselect 3"
    assert [statement.line for statement in split(script)] == [2, 5, 7]


async def test_they_are_applied_by_file_name_and_noted_with_their_statements(
    project: ProjectDatabase, folder: Path
) -> None:
    (folder / "migrations/20260101_first.sql").write_text("create table t (i int); -- first\n")
    (folder / "migrations/9_later.sql").write_text("alter table t add kind text default 'a';")
    (folder / "migrations/notes.sql").write_text("this is no migration")
    (folder / "seed.sql").write_text("insert into t values (1);")
    assert await apply(project.owner, folder) == ["20260101_first.sql", "9_later.sql", "seed.sql"]
    noted = "SELECT version, name, statements FROM supabase_migrations.schema_migrations ORDER BY 1"
    assert ask(project.owner, noted) == [
        ("20260101", "first", ["create table t (i int)"]),
        ("9", "later", ["alter table t add kind text default 'a'"]),
    ]
    assert await apply(project.owner, folder) == []
    assert ask(project.owner, "SELECT * FROM t") == [(1, "a")]


async def test_roles_come_first_and_may_be_there_since_they_are_the_servers(
    project: ProjectDatabase, folder: Path
) -> None:
    (folder / "roles.sql").write_text("create role baker; comment on role baker is 'bakes';")
    (folder / "migrations/1_a.sql").write_text("create table t (i int); grant all on t to baker;")
    with psycopg.connect(project.owner, autocommit=True) as connection:
        connection.execute("CREATE ROLE baker")
    try:
        assert await apply(project.owner, folder) == ["roles.sql", "1_a.sql"]
        assert await apply(project.owner, folder) == []
    finally:
        with psycopg.connect(project.owner, autocommit=True) as connection:
            connection.execute("DROP OWNED BY baker; DROP ROLE baker")


async def test_seeds_are_those_that_the_patterns_name_in_their_order(
    project: ProjectDatabase, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "config.toml").write_text(
        '[db.seed]\nsql_paths = ["./last/*.sql", "first", "./last/a.sql", "none.sql"]'
    )
    (folder / "migrations/1_a.sql").write_text("create table t (i serial, name text);")
    for name in ("first/x/d.sql", "first/c.sql", "last/b.sql", "last/a.sql"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"insert into t (name) values ('{name}');")
    for name in ("seed.sql", "first/readme.txt"):
        (folder / name).write_text("this is not sown")
    done = await apply(project.owner, folder)
    assert done == ["1_a.sql", "last/a.sql", "last/b.sql", "first/c.sql", "first/x/d.sql"]
    assert ask(project.owner, "SELECT name FROM t ORDER BY i") == [(name,) for name in done[1:]]
    assert "no file has a name like none.sql" in caplog.text
    (folder / "config.toml").write_text("[db.seed]\nenabled = false")
    assert await apply(project.owner, folder) == []


@pytest.mark.parametrize(
    "statement",
    [
        "create unique index concurrently if not exists t_i on t (i)",
        "vacuum analyze t",
        "alter system reset work_mem",
        "drop index concurrently if exists t_x",
        "reindex (verbose) table concurrently t",
    ],
)
async def test_what_cannot_run_in_a_transaction_runs_alone(
    project: ProjectDatabase, folder: Path, statement: str
) -> None:
    (folder / "migrations/1_a.sql").write_text(
        f"create table t (i int);\n-- alone\n{statement};\ninsert into t values (1);"
    )
    assert await apply(project.owner, folder) == ["1_a.sql"]
    assert ask(project.owner, "SELECT * FROM t") == [(1,)]


@pytest.mark.parametrize(
    "script",
    [
        'drop extension if exists "pg_net"; create extension citext; drop extension citext;',
        "select cron.schedule('nightly', '0 3 * * *', 'select 1');"
        " grant usage on schema cron to anon; select cron.alter_job((select max(jobid) from"
        " cron.job), active := false); select cron.schedule_in_database('daily', '0 3 * * *',"
        " 'select 1', 'postgres'); select * from cron.job_run_details;",
        "select net.http_post('http://127.0.0.1:9/', '{}'::jsonb);"
        " delete from net._http_response where created < now();"
        " grant usage on schema net to supabase_functions_admin;",
        "grant usage on schema graphql to anon; select graphql.resolve('{ a }');"
        ' grant all on function "extensions"."grant_pg_net_access"() to "dashboard_user";',
        "select vault.create_secret('secret', 'name'); select decrypted_secret from"
        " vault.decrypted_secrets where name = 'name';",
        "create policy crew on realtime.messages for select to authenticated"
        " using (realtime.topic() like 'crew:%');",
        "create table t (i int); create trigger hook after insert on t for each row"
        " execute function supabase_functions.http_request('http://127.0.0.1:9/', 'POST', '{}',"
        " '{}', '1000');"
        " insert into t values (1);",
        "create table t (i int); create function tell() returns trigger language plpgsql as $$"
        " begin perform realtime.broadcast_changes('t', tg_op, tg_op, tg_table_name,"
        " tg_table_schema, new, old); return new; end $$; create trigger tell"
        " after insert on t for each row execute function tell(); insert into t values (1);",
        'select pg_catalog.setval(\'"supabase_functions"."hooks_id_seq"\', 1, false);',
        'create extension if not exists "pgmq" with schema "pgmq"; select pgmq.create(\'Jobs\');'
        " alter table pgmq.q_jobs enable row level security;",
        'create extension "pgjwt" with schema extensions; create extension pgtap;'
        " select payload, valid from extensions.verify(sign('{\"sub\": 1}', 'secret'), 'secret');"
        " comment on schema public is e'@graphql({\"inflect_names\": true})';",
        "create extension http with schema extensions; create function f() returns int language sql"
        " as $$ select status from extensions.http_post('http://127.0.0.1:9/', '{}', 'a/b') $$;"
        " create function g() returns text language plpgsql as $$"
        " declare response extensions.http_response; begin"
        " response := http(('GET', 'http://127.0.0.1:9/?q=' || urlencode('a&b'),"
        " array[http_header('Accept', 'text/html')], null, null)::http_request);"
        " return response.content; end $$; select f(), g();",
        "create function collect() returns text language plpgsql as $$"
        " declare result net.http_response_result; begin"
        " result := net.http_collect_response(net.http_get('http://127.0.0.1:9/'), async := false);"
        " return (result.response).body; end $$; select collect();",
        'create extension pg_tle; drop extension if exists "ann@recipes";'
        " select pgtle.uninstall_extension_if_exists('ann@recipes');"
        " select pgtle.install_extension('ann@recipes', '1', 'recipes', 'create table recipes ()');"
        " create extension \"ann@recipes\" version '1';"
        " select dbdev.install('bob-tests'); create extension if not exists \"bob-tests\";",
        "do $$\nbegin\n  create extension if not exists pg_net with schema extensions;\n"
        "  execute 'create extension pg_cron';\n  create extension if not exists citext;\nend $$;"
        " create table t (i citext);",
        "select pgmq.create('tasks'); select * from pgmq.read('tasks', 30, 1, '{\"kind\": 1}');"
        " grant execute on function pgmq.read(text, integer, integer, jsonb) to anon;"
        " select pgmq.detach_archive('tasks');",
    ],
)
async def test_what_they_mention_of_the_platform_is_there(
    project: ProjectDatabase, folder: Path, script: str
) -> None:
    (folder / "migrations/1_a.sql").write_text(script)
    assert await apply(project.owner, folder) == ["1_a.sql"]


async def test_a_queue_gives_each_message_once_until_it_is_due_again(
    project: ProjectDatabase,
) -> None:
    with psycopg.connect(project.owner, autocommit=True) as connection:

        def ask(call: str) -> list[Any]:
            return [row[0] for row in connection.execute(f"SELECT {call}".encode())]

        ask("pgmq.create('Jobs')")
        assert ask("pgmq.send(queue_name := 'Jobs', msg := '{\"n\": 1}')") == [1]
        assert ask("pgmq.send_batch('Jobs', ARRAY['{\"n\": 2}', '{\"n\": 3}']::jsonb[], 60)") == [
            2,
            3,
        ]
        assert ask("(pgmq.read('Jobs', vt := 60, qty := 5)).message") == [{"n": 1}]
        assert ask("(pgmq.read('Jobs', 60, 5)).message") == []
        assert ask("(pgmq.set_vt('Jobs', 1, vt := 0)).message") == [{"n": 1}]
        assert ask("(pgmq.read_with_poll('Jobs', 60, 5)).message") == [{"n": 1}]
        metrics = connection.execute(
            "SELECT queue_length, total_messages, queue_visible_length FROM pgmq.metrics('Jobs')"
        )
        assert metrics.fetchall() == [(3, 3, 0)]
        assert ask("pgmq.archive('Jobs', 1)") == [True]
        assert ask("message FROM pgmq.a_jobs") == [{"n": 1}]
        assert ask("pgmq.delete('Jobs', 2)") == [True]
        assert ask("pgmq.delete('Jobs', 2)") == [False]
        connection.execute("UPDATE pgmq.q_jobs SET vt = now()")
        assert ask("(pgmq.pop('Jobs')).msg_id") == [3]
        assert ask("(pgmq.list_queues()).queue_name") == ["Jobs"]
        ask("pgmq.send('Jobs', '{}') FROM generate_series(1, 3)")
        assert ask("pgmq.delete('Jobs', ARRAY[3, 4])") == [4]
        assert ask("pgmq.archive('Jobs', ARRAY[5])") == [5]
        assert ask("pgmq.purge_queue('Jobs')") == [1]
        assert ask("(pgmq.metrics_all()).queue_length") == [0]
        assert ask("pgmq.drop_queue('Jobs')") == [True]


async def test_of_several_who_apply_them_at_the_same_moment_one_does(
    project: ProjectDatabase, folder: Path
) -> None:
    (folder / "migrations/1_first.sql").write_text("create table t (i int);")
    (folder / "seed.sql").write_text("insert into t values (1);")
    done = await asyncio.gather(*(apply(project.owner, folder) for _ in range(4)))
    assert sorted(done) == [[], [], [], ["1_first.sql", "seed.sql"]]
    assert ask(project.owner, "SELECT * FROM t") == [(1,)]


async def test_nothing_of_a_file_that_fails_stays_and_it_runs_once_it_is_mended(
    project: ProjectDatabase, folder: Path
) -> None:
    path = folder / "migrations/1_t.sql"
    path.write_text("create table t (i int);\ninsert into t values\n  ('x');\n")
    with pytest.raises(ConfigurationError, match=r"1_t.sql:3: invalid input syntax for type int"):
        await apply(project.owner, folder)
    path.write_text("create table t (i int);\ninsert into t values (1);\n")
    assert await apply(project.owner, folder) == ["1_t.sql"]


async def test_a_dump_of_another_project_leaves_the_versions_of_the_tables(
    project: ProjectDatabase, folder: Path
) -> None:
    versions = "SELECT * FROM auth.amphibase_version, storage.amphibase_version"
    before = ask(project.owner, versions)
    (folder / "seed.sql").write_text(
        f"""INSERT INTO "auth"."amphibase_version" ("version_num") VALUES ('{before[0][0]}');
        INSERT INTO "storage"."amphibase_version" ("version_num") VALUES ('0000');"""
    )
    assert await apply(project.owner, folder) == ["seed.sql"]
    assert ask(project.owner, versions) == before


async def test_a_seed_may_be_compressed(project: ProjectDatabase, folder: Path) -> None:
    (folder / "config.toml").write_text('[db.seed]\nsql_paths = ["*.sql.gz"]')
    (folder / "a.sql.gz").write_bytes(gzip.compress(b"create table t (i int);"))
    assert await apply(project.owner, folder) == ["a.sql.gz"]
    assert ask(project.owner, "SELECT * FROM t") == []
    for content in (b"select 1;", gzip.compress(b"select 1;")[:-9]):
        (folder / "b.sql.gz").write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"b\.sql\.gz is not compressed by gzip, or"):
            await apply(project.owner, folder)


async def test_a_seed_that_failed_is_sown_at_the_next_start(
    project: ProjectDatabase, folder: Path
) -> None:
    (folder / "seed.sql").write_text("select 1;\nselect wrong;")
    with pytest.raises(ConfigurationError, match=r'seed.sql:2: column "wrong" does not exist'):
        await apply(project.owner, folder)
    (folder / "seed.sql").write_text("select 1;")
    assert await apply(project.owner, folder) == ["seed.sql"]


async def test_what_one_file_sets_is_nothing_to_the_next(
    project: ProjectDatabase, folder: Path
) -> None:
    (folder / "migrations/1_a.sql").write_text("select set_config('search_path', '', false);")
    (folder / "migrations/2_b.sql").write_text(
        "create table t (id uuid default uuid_generate_v4())"
    )
    assert len(await apply(project.owner, folder)) == 2


async def test_a_file_may_begin_and_commit_by_itself(
    project: ProjectDatabase, folder: Path
) -> None:
    (folder / "migrations/1_a.sql").write_text(
        "begin;\ncreate table t (i int);\ncommit;\ninsert into t values (1);"
    )
    assert await apply(project.owner, folder) == ["1_a.sql"]
    assert ask(project.owner, "SELECT * FROM t") == [(1,)]


@pytest.mark.parametrize(
    "statement",
    [
        "create trigger t before insert on storage.objects for each row"
        " execute function storage.objects_insert_prefix_trigger()",
        'revoke all on table "storage"."prefixes" from "anon"',
        "select storage.get_level('a/b')",
    ],
)
async def test_what_storage_has_dropped_is_to_be_left_out(
    project: ProjectDatabase, folder: Path, statement: str
) -> None:
    (folder / "migrations/1_a.sql").write_text(f"{statement};")
    with pytest.raises(ConfigurationError, match=r"has dropped its prefixes.*leave the statement"):
        await apply(project.owner, folder)


async def test_rows_that_only_psql_reads_are_named(project: ProjectDatabase, folder: Path) -> None:
    (folder / "migrations/1_a.sql").write_text("create table t (i int);")
    (folder / "seed.sql").write_text("\nCOPY public.t (i) FROM stdin;\n1\n\\.\n")
    with pytest.raises(
        ConfigurationError, match=r"seed.sql:2: only psql reads the rows.*as INSERT"
    ):
        await apply(project.owner, folder)


async def test_the_first_migration_of_an_early_version_of_the_cli_is_skipped(
    project: ProjectDatabase, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("20211101000000_init.sql", "20211201000000_init.sql"):
        (folder / "migrations" / name).write_text("create table t (i int);")
    assert await apply(project.owner, folder) == ["20211201000000_init.sql"]
    assert "20211101000000_init.sql is skipped, as by the CLI" in caplog.text
    (folder / "migrations/20211101000000_init.sql").unlink()
    (folder / "migrations/20211201000000_init.sql").unlink()
    (folder / "migrations/20211209000000_init.sql").write_text("create table u (i int);")
    assert await apply(project.owner, folder) == ["20211209000000_init.sql"]


async def test_two_migrations_of_one_version_are_rejected(
    project: ProjectDatabase, folder: Path
) -> None:
    for name in ("1_a.sql", "1_b.sql"):
        (folder / "migrations" / name).write_text("select 1;")
    with pytest.raises(ConfigurationError, match=r"1_b.sql and 1_a.sql have the same version 1"):
        await apply(project.owner, folder)


async def test_secrets_of_the_vault_are_there_for_migrations_and_are_changed(
    project: ProjectDatabase, folder: Path
) -> None:
    reading = "SELECT name, decrypted_secret FROM vault.decrypted_secrets ORDER BY name"
    (folder / "migrations/1_seen.sql").write_text(f"CREATE TABLE seen AS {reading}")
    (folder / "config.toml").write_text('[db.vault]\na = "one"\nb = "two"\nc = "env(NOT_SET)"')
    await apply(project.owner, folder)
    (folder / "config.toml").write_text('[db.vault]\nb = "2"')
    await apply(project.owner, folder)
    with psycopg.connect(project.owner) as connection:
        assert connection.execute("TABLE seen").fetchall() == [("a", "one"), ("b", "two")]
        assert connection.execute(reading.encode()).fetchall() == [("a", "one"), ("b", "2")]


async def test_a_vault_that_cannot_be_written_is_named_without_its_secrets(
    project: ProjectDatabase, folder: Path
) -> None:
    with psycopg.connect(project.owner) as connection:
        connection.execute("DROP SCHEMA vault CASCADE")
        connection.execute("CREATE SCHEMA vault")
    (folder / "config.toml").write_text('[db.vault]\na = "hush"')
    with pytest.raises(ConfigurationError) as raised:
        await apply(project.owner, folder)
    assert raised.value.detail.startswith("supabase/config.toml: db.vault: cannot be stored: ")
    assert "hush" not in raised.value.detail
