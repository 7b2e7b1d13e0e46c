"""The application of the tests, with routes that are made once: that takes longer than a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI

from amphibase import Amphibase, Settings

MOUNTED = ("routes_prefix", "cors_origins", "trusted_proxies", "body_timeout")
"""The settings that `mount` reads; `use` changes all others."""

_idle: dict[tuple[Any, ...], FastAPI] = {}


@contextmanager
def plain_application(settings: Settings) -> Iterator[FastAPI]:
    """An application that adds nothing of its own, with a test's settings; where the test has
    changed or not stopped it, no other test gets the same."""
    key = tuple(getattr(settings, name) for name in MOUNTED)
    app = _idle.pop(key, None) or Amphibase(settings).mount(FastAPI())
    db: Amphibase = app.state.amphibase
    db.use(settings)
    before = _parts(app)
    yield app
    if _parts(app) == before and db._state is None and not db._hooks:
        _idle[key] = app


def _parts(app: FastAPI) -> tuple[Any, ...]:
    """What a test may add to."""
    parts = (app.router.routes, app.user_middleware, app.exception_handlers)
    return tuple(part.copy() for part in (*parts, app.dependency_overrides))
