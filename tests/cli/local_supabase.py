"""The command `amphibase supabase` in a folder, as tests run it."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests import commands

MIGRATION = """
create extension if not exists pg_net with schema extensions;
create table public.notes (id uuid primary key default uuid_generate_v4(), title text not null);
grant select, insert on public.notes to anon;
"""
SEED = "insert into public.notes (title) values ('from the seed; once');"
ANON_KEY = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    "eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6ImFub24iLCJleHAiOjE5ODM4MTI5OTZ9."
    "CRXP1A7WOeoJeXxjNni43kdQwgnWNReilDMblYTn_I0"
)


@dataclass
class Cli:
    """The command, run in a folder.

    Attributes:
        forked: False starts Python itself, as a shell does.
    """

    folder: Path
    forked: bool = True

    def __call__(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return commands.run(self.folder, environment, "supabase", *arguments, forked=self.forked)

    def start(self, *arguments: str) -> dict[str, str]:
        done = self("start", "--port", "0", "-o", "json", *arguments)
        assert done.returncode == 0, done.stderr
        values: dict[str, str] = json.loads(done.stdout)
        return values

    def write(self, name: str, content: str) -> None:
        path = self.folder / "supabase" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def titles(values: dict[str, str]) -> list[str]:
    """The notes' titles, over the Data API."""
    headers = {"apikey": values["ANON_KEY"]}
    response = httpx.get(f"{values['API_URL']}/rest/v1/notes?order=title", headers=headers)
    assert response.status_code == 200, response.text
    return [note["title"] for note in response.json()]
