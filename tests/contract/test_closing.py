"""A backend closes all that it has opened."""

from typing import Any

import pytest

from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.background import Background
from amphibase.build import build_backend
from amphibase.database.engine import Database
from amphibase.messages.listener import TransportListener
from amphibase.records.log_reader import LogReader
from amphibase.settings.application import Settings
from amphibase.supabase.client import SupabaseClient

PARTS = (TransportListener, LogReader, Background)


@pytest.mark.parametrize(
    "backend_settings", ["sqlite", "supabase", "supabase-database"], indirect=True
)
@pytest.mark.parametrize("failing", PARTS)
async def test_a_part_that_fails_to_close_leaves_no_other_open(
    backend_settings: Settings, monkeypatch: pytest.MonkeyPatch, failing: type
) -> None:
    closed: set[type] = set()
    for part in (*PARTS, Database, SupabaseClient):
        close = part.close

        async def counted(self: Any, close: Any = close, part: type = part) -> None:
            closed.add(part)
            await close(self)
            if part is failing:
                raise ConnectionResetError("while it was closed")

        monkeypatch.setattr(part, "close", counted)
    backend = build_backend(backend_settings, load_keys(backend_settings))
    with pytest.raises(ConnectionResetError):
        await backend.close()
    assert closed >= {*PARTS}
    assert (SupabaseClient in closed) == bool(backend_settings.supabase_url)
    assert (Database in closed) == (
        not backend_settings.supabase_url or bool(backend_settings.supabase_db_url)
    )
