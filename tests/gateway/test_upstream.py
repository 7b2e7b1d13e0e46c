"""What `auth` and `storage` have upstream and nothing here uses: a project's dump arrives whole."""

import subprocess
from pathlib import Path

import psycopg
import pytest
from tests.gateway.conftest import PASSWORD, ProjectDatabase
from tests.gateway.statements import ask, keep

from amphibase.gateway.project import prepare
from amphibase.postgres import find_binaries

DUMP = Path(__file__).parent / "dumps" / "project.sql"
"""Of the form that `supabase db dump --data-only --use-copy` writes, with rows of our own."""

NAMES = ["c.txt", "a/1.txt", "a/2.txt", "b/x/3.txt", "A/4.txt"]
BELOW_NOTHING = ["A", "a", "b", "c.txt"]


def restore(url: str) -> subprocess.CompletedProcess[str]:
    """Restore as the guide of self-hosting says."""
    options = ["--single-transaction", "--variable", "ON_ERROR_STOP=1", "--file", str(DUMP)]
    command = [str(find_binaries() / "psql"), *options, "--dbname", url]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_the_dump_of_a_project_arrives_whole(project: ProjectDatabase) -> None:
    done = restore(project.owner)
    assert done.returncode == 0, done.stderr
    assert ask(project.roles.auth_admin, "SELECT email, confirmed_at IS NULL FROM auth.users") == [
        ("ann@example.com", False)
    ]
    assert ask(project.roles.auth_admin, "SELECT domain FROM auth.sso_domains") == [
        ("example.com",)
    ]
    assert ask(project.roles.storage_admin, "SELECT path_tokens FROM storage.objects") == [
        (["ann", "face.png"],)
    ]
    assert ask(project.roles.auth_admin, "SELECT nextval('auth.refresh_tokens_id_seq')") == [(38,)]


async def test_a_project_of_an_earlier_version_takes_it_too(project: ProjectDatabase) -> None:
    keep(
        project.owner,
        "DROP SCHEMA supabase_functions CASCADE",
        "DROP TABLE auth.instances, auth.saml_relay_states, storage.s3_multipart_uploads CASCADE",
        "ALTER TABLE storage.objects DROP COLUMN is_versioned",
        "COMMENT ON SCHEMA extensions IS 'Made by Amphibase: project of an earlier version'",
    )
    assert restore(project.owner).returncode != 0
    await prepare(project.owner, PASSWORD)
    assert restore(project.owner).returncode == 0


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_callers_see_nothing_of_what_no_feature_uses(
    project: ProjectDatabase, role: str
) -> None:
    keep(project.owner, "INSERT INTO storage.buckets_vectors (id) VALUES ('v')")
    vectors = "SELECT count(*) FROM storage.buckets_vectors"
    assert ask(project.authenticator, f"SET ROLE {role}", vectors) == [(0,)]
    for table in ("auth.oauth_clients", "auth.sso_providers", "supabase_functions.hooks"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(project.authenticator, f"SET ROLE {role}", f"SELECT * FROM {table}")


@pytest.fixture
def objects(project: ProjectDatabase) -> ProjectDatabase:
    """A project with a bucket of objects."""
    values = ", ".join(
        f"('b', '{name}', '{{\"size\": 5}}', '2026-01-0{day} 00:00+00')"
        for day, name in enumerate(NAMES, 1)
    )
    keep(
        project.owner,
        "INSERT INTO storage.buckets (id, name) VALUES ('b', 'b'), ('other', 'other')",
        f"INSERT INTO storage.objects (bucket_id, name, metadata, created_at) VALUES {values}",
    )
    return project


@pytest.mark.parametrize(
    ("call", "names"),
    [
        ("search('', 'b')", ["A", "a", "b", "c.txt"]),
        ("search('', 'b', 2, 1, 1)", ["a", "b"]),
        ("search('', 'b', 100, 1, 0, '', 'name', 'desc')", ["b", "a", "A", "c.txt"]),
        ("search('a/', 'b', 100, 2)", ["1.txt", "2.txt", "4.txt"]),
        ("search('a/', 'b', 100, 2, 0, '2')", ["2.txt"]),
        ("search('a/', 'b', 100, 2, 0, '', 'created_at', 'desc')", ["4.txt", "2.txt", "1.txt"]),
        ("search('', 'other')", []),
        ("search_v2('', 'b')", ["A/", "a/", "b/", "c.txt"]),
        ("search_v2('', 'b', 2, 1, 'A/')", ["a/", "b/"]),
        ("search_v2('', 'b', 9, 1, '', 'desc')", ["c.txt", "b/", "a/", "A/"]),
        ("search_v2('', 'b', 2, 1, '', 'asc', 'created_at')", ["c.txt", "a/"]),
        (
            "search_v2('', 'b', 9, 1, 'a/', 'asc', 'created_at', '2026-01-02 00:00+00')",
            ["b/", "A/"],
        ),
        ("list_objects_with_delimiter('b', '', '/')", BELOW_NOTHING),
        ("list_objects_with_delimiter('b', '', '/', 2, 'A')", ["a", "b"]),
        ("list_objects_with_delimiter('b', '', '/', 2, '', 'b', 'desc')", ["a", "A"]),
        ("list_objects_with_delimiter('b', 'a/', '/')", ["a/1.txt", "a/2.txt"]),
    ],
)
async def test_objects_are_searched_by_sql(
    objects: ProjectDatabase, call: str, names: list[str]
) -> None:
    as_service = f"SELECT name, id FROM storage.{call}"
    rows = ask(objects.authenticator, "SET ROLE service_role", as_service)
    assert [name for name, _ in rows] == names
    assert ask(objects.authenticator, "SET ROLE anon", as_service) == []
    assert all((id is None) != name.endswith(".txt") for name, id in rows)


async def test_sizes_are_told_and_an_insert_is_tried(objects: ProjectDatabase) -> None:
    sizes = "SELECT size, bucket_id FROM storage.get_size_by_bucket()"
    assert ask(objects.owner, sizes) == [(25, "b")]
    with pytest.raises(psycopg.DatabaseError, match="ROLLBACK") as tried:
        ask(objects.owner, "SELECT storage.can_insert_object('b', 'new', NULL, '{}')")
    assert tried.value.sqlstate == "PT200"
    insert = "SELECT storage.can_insert_object('b', 'new', NULL, '{}')"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(objects.authenticator, "SET ROLE anon", insert)
