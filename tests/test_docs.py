"""The documentation is true: its code runs, and what it names exists."""

import ast
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from tests.commands import inherited, run_script, run_tests
from tests.serving import serving

import amphibase
from amphibase.testing import plugin

ROOT = Path(__file__).parents[1]
SOURCE = Path(amphibase.__file__).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        if page.name not in ("README.md", "testing.md")
        for number, block in enumerate(blocks(page), 1)
        if not block.startswith("# test_")
    ],
)
def test_every_snippet_runs(block: str, tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(block)
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path / "data")}
    done = run_script(snippet, environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "passed"), [("testing.md", 3), ("patterns.md", 1)])
def test_the_tests_of_a_page_pass(tmp_path: Path, page: str, passed: int) -> None:
    for block in blocks(ROOT / "docs" / page):
        name = block.splitlines()[0].removeprefix("# ")
        if page == "testing.md" or name.startswith("test_"):
            (tmp_path / name).write_text(block)
    environment = {**inherited(), "DATA_DIR": str(tmp_path / "data")}
    done = run_tests(tmp_path, environment, "-o", "asyncio_mode=auto")
    assert f"{passed} passed" in done.stdout, done.stdout


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A folder with the README's example as `main.py`."""
    (block,) = blocks(ROOT / "README.md")
    (tmp_path / "main.py").write_text(block)
    return tmp_path


@pytest.mark.parametrize("backend", ["sqlite", "postgres", "postgres by RLS"])
def test_in_the_readmes_example_users_see_only_their_own_notes(
    example: Path, backend: str, request: pytest.FixtureRequest
) -> None:
    environment = {
        "DATABASE_URL": request.getfixturevalue(f"{backend.split()[0]}_url"),
        "RLS": str(backend.endswith("RLS")).lower(),
    }
    check_notes(example, environment)


def test_the_same_example_runs_on_a_project_that_is_prepared_as_documented(example: Path) -> None:
    page = (ROOT / "docs" / "supabase.md").read_text()
    (block, *_) = re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    commands = re.findall(r"^\$ (.+)$", block, re.MULTILINE)
    assert commands.pop() == "amphibase serve main:app"
    script = "\n".join(["set -eu", *commands, "env"])
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=example,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        variables = dict(re.findall(r"^(BACKEND|SUPABASE_\w+)=(.*)$", done.stdout, re.MULTILINE))
        check_notes(example, variables)
    finally:
        subprocess.run(
            [sys.executable, "-m", "amphibase", "supabase", "stop"],
            cwd=example,
            env=environment,
            check=False,
        )


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_readmes_example_moves_to_a_project_and_back_as_documented(example: Path) -> None:
    page = (ROOT / "docs" / "moving.md").read_text()
    there, back = re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[:2]
    commands = re.findall(r"^\$ (.+)$", there + back, re.MULTILINE)
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(
            ["bash", "-c", "\n".join(["set -eu", *commands])],
            cwd=example,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
    finally:
        subprocess.run(
            [sys.executable, "-m", "amphibase", "supabase", "stop"],
            cwd=example,
            env=environment,
            check=False,
        )
    with closing(sqlite3.connect(example / "back" / "app.db")) as database:
        assert database.execute("SELECT email, name FROM users").fetchall() == [
            ("ann@example.com", "Ann")
        ]


def check_notes(folder: Path, environment: dict[str, str]) -> None:
    """Check that users of the example see only their own notes."""
    with serving(folder, environment, "main:app") as url:
        tokens = {}
        for who in ("ann", "bob"):
            body = {"email": f"{who}@example.com", "password": "correct horse battery"}
            response = httpx.post(f"{url}/auth/sign-up", json=body)
            tokens[who] = {"Authorization": f"Bearer {response.json()['access_token']}"}
        for who in ("ann", "bob"):
            for stars in (3, 4, 5):
                new = {"title": f"{who}'s with {stars}", "stars": stars}
                added = httpx.post(f"{url}/notes", json=new, headers=tokens[who])
                assert added.status_code == 201, added.text
                assert added.json().items() > new.items()
        for who in ("ann", "bob"):
            mine = httpx.get(f"{url}/notes", headers=tokens[who]).json()
            assert [note["title"] for note in mine] == [f"{who}'s with 5", f"{who}'s with 4"]
        assert httpx.get(f"{url}/notes").json() == []
        rejected = httpx.post(f"{url}/notes", json={"title": "anonymous"})
        assert rejected.status_code == 401
        assert rejected.json()["code"] == "not_authenticated"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_link_between_pages_has_a_target(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("listing", ["mkdocs.yml", "docs/index.md", "README.md"])
def test_every_page_is_listed(listing: str) -> None:
    text = (ROOT / listing).read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if page not in text} == set()


def test_every_link_into_a_page_leads_to_a_heading() -> None:
    headings = {page.resolve(): slugs(page) for page in PAGES}
    missing = [
        f"{page.name}: {target}#{anchor}"
        for page in PAGES
        for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text())
        if anchor not in headings.get((page.parent / target if target else page).resolve(), ())
    ]
    assert missing == []


def slugs(page: Path) -> set[str]:
    """The anchors that GitHub and mkdocs give the headings of a page."""
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    }


def documented_variables(page: str) -> set[str]:
    """The names of a page, with what the placeholders in them stand for."""
    text = (ROOT / "docs" / page).read_text()
    names = set(re.findall(r"`([A-Z0-9_{}]+)`", text))
    for placeholder, values in re.findall(r"`({[A-Z]+})` stands for (.+?)(?:\.\n| \|)", text):
        for value in re.findall(r"`([A-Z_]+)`", values):
            names |= {name.replace(placeholder, value) for name in names}
    return names


def test_every_setting_is_documented() -> None:
    from amphibase import Settings

    names = documented_variables("settings.md")
    assert [name for name in Settings.model_fields if name.upper() not in names] == []


def test_every_setting_of_the_gateway_is_documented() -> None:
    from amphibase.gateway.auth.settings import AuthSettings
    from amphibase.gateway.realtime.settings import RealtimeSettings
    from amphibase.gateway.rest.settings import RestSettings
    from amphibase.gateway.settings import GatewaySettings
    from amphibase.gateway.storage.settings import StorageSettings
    from amphibase.settings.loading import variables

    names = documented_variables("gateway-settings.md")
    missing = [
        name
        for kind in (GatewaySettings, RestSettings, AuthSettings, StorageSettings, RealtimeSettings)
        for field in kind.model_fields
        for name in variables(kind, field)[:1]
        if name not in names
    ]
    assert missing == []


def members_of_classes() -> dict[str, set[str]]:
    """The methods and annotated attributes of each class of the package."""
    return {
        node.name: {
            name
            for part in node.body
            for name in (
                getattr(part, "name", None),
                getattr(getattr(part, "target", 0), "id", None),
            )
            if name
        }
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }


PATTERNS = {
    "": """
        Settings Base get_db_session UserDBModel SupabaseSettings get_supabase_client
        get_supabase_admin migrate_users migrate_from_supabase event_loop test_engine
        test_db_session test_client override_get_db test_supabase_client test_client_supabase
        override_get_supabase cleanup_test_data
    """,
    "UserRepository": "create get_by_id get_by_email get_all update delete",
    "UserService": "create_user get_user_by_id get_users update_user delete_user",
    "AuthService": "verify_password get_password_hash create_access_token",
    "FileService": "upload_file delete_file",
    "SupabaseUserRepository": "create get_by_id get_by_email get_all update delete",
    "SupabaseUserService": "create_user get_user_by_id get_users update_user delete_user",
    "SupabaseAuthService": "sign_up sign_in get_user",
    "SupabaseStorageService": "upload_file get_signed_url delete_file",
}
"""The functions and classes of the patterns, and the methods of the classes."""


def test_each_pattern_has_a_place() -> None:
    rows = [
        line.split(" | ")[0]
        for line in (ROOT / "docs" / "patterns.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    named = set()
    for row in rows:
        owner = ""
        for code in re.findall(r"`([^`]+)`", row):
            name = code.split("(")[0]
            if "." in name:
                owner, _, name = name.partition(".")
            named.add((owner, name))
    missing = {(owner, name) for owner, names in PATTERNS.items() for name in names.split()} - named
    assert missing == set()


def test_each_pattern_names_code_that_exists() -> None:
    classes = members_of_classes()
    modules = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py")}
    rows = [
        line.rstrip(" |").split(" | ")[-1]
        for line in (ROOT / "docs" / "patterns.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    missing = []
    for row in rows:
        owner = "Amphibase"
        for code in re.findall(r"`([^`]+)`", row):
            name = code.split("(")[0].replace("db.", "Amphibase.")
            if name.endswith(".py"):
                exists = name in modules
            elif match := re.fullmatch(r"([A-Z][a-z]\w*)(?:\.(\w+))?", name):
                owner = match[1]
                exists = owner in classes and match[2] in (None, *classes[owner])
            elif re.fullmatch(r"amphibase\.\w+|[a-z_]+", name):
                exists = name.removeprefix("amphibase.") in dir(amphibase)
                exists = exists or name in classes[owner] or hasattr(plugin, name)
            else:  # a setting, a route, a table or a line of an example
                continue
            if not exists:
                missing.append(code)
    assert missing == []
