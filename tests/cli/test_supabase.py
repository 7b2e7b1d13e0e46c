"""`amphibase supabase`: a local Supabase by one command, as people and their scripts run it."""

import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from tests.cli.local_supabase import ANON_KEY, MIGRATION, SEED, Cli, titles

from amphibase.gateway.data_dir import REOPENING_FILE, DataDir

NAMES = {"API_URL", "DB_URL", "ANON_KEY", "SERVICE_ROLE_KEY", "JWT_SECRET", "INBOX_URL"}


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A folder with a migration and a seed, on which a local Supabase runs."""
    cli = Cli(tmp_path_factory.mktemp("project"))
    cli.write("migrations/20260101000000_notes.sql", MIGRATION)
    cli.write("seed.sql", SEED)
    Cli(cli.folder, forked=False).start()  # into a pipe, which the gateway has to let go of
    yield cli
    cli("stop")


@pytest.fixture
def values(cli: Cli) -> dict[str, str]:
    """What `status` tells."""
    done = cli("status", "-o", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_it_has_the_names_and_the_keys_of_the_supabase_cli(values: dict[str, str]) -> None:
    assert values.keys() >= NAMES
    assert values["ANON_KEY"] == ANON_KEY
    assert values["JWT_SECRET"] == "super-secret-jwt-token-with-at-least-32-characters-long"


def test_tools_reach_its_database_by_the_url_that_they_have_written_in(
    values: dict[str, str],
) -> None:
    port = urlsplit(values["DB_URL"]).port
    with psycopg.connect(f"postgresql://postgres:postgres@127.0.0.1:{port}/postgres") as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (1,)


def test_the_config_file_makes_buckets_with_their_files_and_reset_makes_them_anew(
    cli: Cli, values: dict[str, str]
) -> None:
    cli.write("config.toml", '[storage.buckets.leaflets]\npublic = true\nobjects_path = "papers"')
    cli.write("papers/a/b.txt", "hello")
    try:
        for _ in range(2):
            done = cli("reset")
            assert done.returncode == 0, done.stderr
            url = f"{values['API_URL']}/storage/v1/object/public/leaflets/a/b.txt"
            assert httpx.get(url).text == "hello"
    finally:
        (cli.folder / "supabase/config.toml").unlink()


def test_vectors_and_pgcrypto_are_on_one_server(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.write(
        "migrations/1_recipes.sql",
        "create extension if not exists vector with schema extensions;"
        "create extension if not exists pgcrypto with schema extensions;"
        'create extension if not exists "uuid-ossp" with schema extensions;'
        "create table public.recipes (id uuid primary key default extensions.gen_random_uuid(),"
        " body text, embedding extensions.vector(3));"
        "insert into public.recipes (body, embedding) values ('rye', '[1,0,0]');",
    )
    cli.write(
        "seed.sql",
        "insert into auth.users (instance_id, id, aud, role, email, encrypted_password,"
        " email_confirmed_at) values ('00000000-0000-0000-0000-000000000000',"
        " extensions.uuid_generate_v1(), 'authenticated', 'authenticated', 'eva@example.com',"
        " crypt('hunter22', gen_salt('bf')), now());",
    )
    values = cli.start()
    try:
        response = httpx.post(
            f"{values['API_URL']}/auth/v1/token?grant_type=password",
            json={"email": "eva@example.com", "password": "hunter22"},
            headers={"apikey": values["ANON_KEY"]},
        )
        assert response.status_code == 200, response.text
        with psycopg.connect(values["DB_URL"]) as connection:
            nearest = "SELECT body FROM recipes ORDER BY embedding <-> '[1,0,1]'"
            assert connection.execute(nearest.encode()).fetchall() == [("rye",)]
    finally:
        cli("stop")


def test_tables_without_grants_are_named_at_the_start_and_their_grants_are_printed(
    cli: Cli, values: dict[str, str]
) -> None:
    cli.write("migrations/20260102000000_shut.sql", "create table public.shut (id int);")
    grants = cli.folder / "supabase/migrations/20260102000001_grants.sql"
    try:
        assert cli("reset").returncode == 0
        rows = f"{values['API_URL']}/rest/v1/shut"
        for key, role in (("ANON_KEY", "anon"), ("SERVICE_ROLE_KEY", "service_role")):
            response = httpx.get(rows, headers={"apikey": values[key]})
            assert response.json() == {
                "code": "42501",
                "details": None,
                "hint": "Grant the required privileges to the current role with: "
                f"GRANT SELECT ON public.shut TO {role};",
                "message": "permission denied for table shut",
            }
        cli("stop")
        started = cli("start", "--port", "0", "-o", "json")
        assert "has grants on public.shut; `amphibase supabase grants`" in started.stderr
        grants.write_text(cli("grants").stdout)
        assert cli("reset").returncode == 0
        rows = f"{json.loads(started.stdout)['API_URL']}/rest/v1/shut"
        assert httpx.get(rows, headers={"apikey": values["ANON_KEY"]}).json() == []
        assert cli("grants").stdout == ""
    finally:
        grants.unlink(missing_ok=True)
        (cli.folder / "supabase/migrations/20260102000000_shut.sql").unlink()
        cli("reset")


def test_emails_are_read_as_from_the_inbox_of_the_supabase_cli(values: dict[str, str]) -> None:
    httpx.post(
        f"{values['API_URL']}/auth/v1/otp",
        json={"email": "ann@example.com"},
        headers={"apikey": values["ANON_KEY"]},
    ).raise_for_status()
    assert values["INBUCKET_URL"] == values["MAILPIT_URL"]
    search = f"{values['MAILPIT_URL']}/api/v1/search?query=to:ann@example.com"
    for _ in range(300):  # it is sent after the response
        messages = httpx.get(search).json()["messages"]
        if messages:
            break
        time.sleep(0.1)
    assert [each["To"] for each in messages] == [[{"Name": "", "Address": "ann@example.com"}]]


def test_env_is_the_same_as_lines_for_a_shell(cli: Cli, values: dict[str, str]) -> None:
    lines = cli("status", "-o", "env").stdout.splitlines()
    assert lines == [f'{name}="{value}"' for name, value in values.items()]


def test_the_table_has_each_value_whole_on_a_line(cli: Cli, values: dict[str, str]) -> None:
    lines = cli("status").stdout.splitlines()
    assert [tuple(line.split()) for line in lines] == list(values.items())


def test_migrations_and_the_seed_are_applied_and_served(values: dict[str, str]) -> None:
    assert titles(values) == ["from the seed; once"]
    with psycopg.connect(values["DB_URL"]) as connection:
        notes = "SELECT version, name FROM supabase_migrations.schema_migrations"
        assert connection.execute(notes).fetchall() == [("20260101000000", "notes")]


def test_starting_it_twice_says_that_it_runs_and_how_to_reach_it(
    cli: Cli, values: dict[str, str]
) -> None:
    again = cli("start", "-o", "json")
    assert again.returncode == 0
    assert json.loads(again.stdout) == values
    assert "running already" in again.stderr


def test_what_it_says_of_itself_is_its_owners_alone(cli: Cli, values: dict[str, str]) -> None:
    data = cli.folder / ".amphibase"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    keys = httpx.get(f"{values['API_URL']}/auth/v1/.well-known/jwks.json").json()["keys"]
    assert len(keys) == 1  # which is made when it is first needed
    for name in ("state.json", "authenticator.password", "root.key", "keys.json", "gateway.log"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600, name
    assert (data / ".gitignore").read_text() == "*\n"


def test_data_survives_a_restart(cli: Cli, values: dict[str, str]) -> None:
    headers = {"apikey": values["ANON_KEY"]}
    added = httpx.post(
        f"{values['API_URL']}/rest/v1/notes", json={"title": "kept"}, headers=headers
    )
    assert added.status_code == 201, added.text
    assert cli("stop").returncode == 0
    stopped = cli("status", "-o", "json")
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert "not running" in stopped.stderr
    started = cli.start()
    assert titles(started) == ["from the seed; once", "kept"]
    with psycopg.connect(started["DB_URL"]) as connection:
        connection.execute("DELETE FROM notes WHERE title = 'kept'")


def test_a_migration_that_is_new_is_applied_at_the_next_start_and_the_seed_is_not(
    cli: Cli,
) -> None:
    cli("reset")
    cli("stop")
    cli.write(
        "migrations/20260102000000_more.sql", "insert into public.notes (title) values ('more')"
    )
    started = cli.start()
    assert titles(started) == ["from the seed; once", "more"]
    (cli.folder / "supabase/migrations/20260102000000_more.sql").unlink()
    with psycopg.connect(started["DB_URL"]) as connection:
        connection.execute("DELETE FROM notes WHERE title = 'more'")
        applied = "DELETE FROM supabase_migrations.schema_migrations WHERE name = 'more'"
        assert connection.execute(applied).rowcount == 1


def test_sql_reads_the_published_secret_and_signs_tokens_that_the_services_take(
    cli: Cli, values: dict[str, str]
) -> None:
    reading = "SELECT current_setting('app.settings.jwt_exp'), extensions.sign(%s::json, %s)"
    secret = "current_setting('app.settings.jwt_secret')"
    claims = '{"role": "service_role"}'
    for command in ("status", "reset"):
        assert cli(command).returncode == 0
        with psycopg.connect(values["DB_URL"]) as connection:
            statement = reading.replace("%s)", f"{secret})").encode()
            row = connection.execute(statement, (claims,)).fetchone()
        assert row is not None
        assert row[0] == "3600"
        headers = {"apikey": values["ANON_KEY"], "Authorization": f"Bearer {row[1]}"}
        response = httpx.get(f"{values['API_URL']}/storage/v1/bucket", headers=headers)
        assert response.status_code == 200, response.text


def test_reset_makes_the_database_anew_and_leaves_no_file(cli: Cli, values: dict[str, str]) -> None:
    with psycopg.connect(values["DB_URL"]) as connection:
        connection.execute("INSERT INTO public.notes (title) VALUES ('to be lost')")
        connection.execute("INSERT INTO storage.buckets (id, name) VALUES ('b', 'b')")
    uploaded = httpx.post(
        f"{values['API_URL']}/storage/v1/object/b/lost.txt",
        headers={"apikey": values["SECRET_KEY"], "Content-Type": "text/plain"},
        content=b"to be lost too",
    )
    assert uploaded.status_code == 200, uploaded.text
    storage = cli.folder / ".amphibase/storage"
    assert any(path.is_file() for path in storage.rglob("*"))
    done = cli("reset")
    assert done.returncode == 0, done.stderr
    assert "pg_net is skipped" in done.stderr
    assert titles(values) == ["from the seed; once"]
    with psycopg.connect(values["DB_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM storage.buckets").fetchone() == (0,)
    assert not any(path.is_file() for path in storage.rglob("*"))


def test_reset_waits_until_no_request_reaches_the_services_of_the_database_before(
    cli: Cli,
) -> None:
    folder = DataDir(cli.folder / ".amphibase")
    gateway = folder.process()
    assert gateway is not None
    os.kill(gateway, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            resetting = pool.submit(cli, "reset")
            while not (folder.path / REOPENING_FILE).exists() and not resetting.done():
                time.sleep(0.02)
            assert not resetting.done()
            os.kill(gateway, signal.SIGCONT)
            assert resetting.result().returncode == 0
    finally:
        os.kill(gateway, signal.SIGCONT)
    assert not (folder.path / REOPENING_FILE).exists()


def test_reset_leaves_no_role_of_a_migration_and_no_setting_of_one(
    cli: Cli, values: dict[str, str]
) -> None:
    path = cli.folder / "supabase/migrations/20260103000000_roles.sql"
    role = "create role clerk login; grant select on public.notes to clerk;"
    path.write_text(
        f"{role} alter role anon set statement_timeout = '1s';"
        " alter role authenticator set pgrst.db_max_rows = '1';"
    )
    settings = (
        "SELECT rolname, unnest(rolconfig) FROM pg_roles"
        " WHERE rolname IN ('anon', 'authenticator') ORDER BY 1, 2"
    )
    with psycopg.connect(values["DB_URL"]) as connection:
        before = connection.execute(settings.encode()).fetchall()
    assert cli("reset").returncode == 0
    path.write_text(role)
    done = cli("reset")
    path.unlink()
    assert done.returncode == 0, done.stderr
    with psycopg.connect(values["DB_URL"]) as connection:
        assert connection.execute(settings.encode()).fetchall() == before


def test_what_a_killed_one_left_behind_is_not_taken_for_one_that_runs(cli: Cli) -> None:
    state = json.loads((cli.folder / ".amphibase/state.json").read_text())
    os.kill(state["pid"], signal.SIGKILL)
    assert DataDir(cli.folder / ".amphibase").wait_until_free(60)  # until it has ended
    assert cli("status").returncode == 1
    assert titles(cli.start()) == ["from the seed; once"]


def test_a_migration_that_fails_is_told_by_file_line_and_the_servers_words(
    cli: Cli, values: dict[str, str]
) -> None:
    path = cli.folder / "supabase/migrations/20260103000000_wrong.sql"
    path.write_text("create table public.half (id int);\n\nselect\n  missing\nfrom public.half;\n")
    failed = cli("reset")
    path.unlink()
    assert failed.returncode == 2
    assert (
        'error supabase/migrations/20260103000000_wrong.sql:4: column "missing" does not exist'
        in failed.stderr
    )
    with psycopg.connect(values["DB_URL"]) as connection:
        assert connection.execute("SELECT to_regclass('public.half')").fetchone() == (None,)
    assert cli("reset").returncode == 0


def test_two_gateways_on_one_server_do_not_lock_each_other_out(
    cli: Cli, values: dict[str, str], tmp_path: Path
) -> None:
    second = Cli(tmp_path)
    notes = titles(values)
    second.start("--database-url", values["DB_URL"])
    try:
        with ThreadPoolExecutor(15) as pool:  # at once, so that new connections are opened
            found = list(pool.map(titles, [values] * 30))
        assert found == [notes] * 30
    finally:
        second("stop")
