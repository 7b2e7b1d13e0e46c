"""Secrets in URLs stay out of every log."""

import asyncio
import importlib
import logging
import pkgutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from tests.conftest import SECRET
from tests.websockets import shake_hands

import amphibase
from amphibase import Amphibase, load_settings
from amphibase.cli.logs import JsonLines
from amphibase.redaction import REDACTED, RedactingFilter, redact
from amphibase.server import UvicornServer

HIDDEN = "hidden-value-7"

NAMES = [
    "token", "access_token", "refresh_token", "provider_token", "token_hash", "upload_token",
    "apikey", "api_key", "api-key", "code", "email_otp", "otp", "password", "new_password",
    "secret", "client_secret", "code_verifier", "signature", "sig", "X-Amz-Signature",
    "X-Amz-Credential", "X-Amz-Security-Token", "X-Goog-Signature", "id_token", "assertion", "jwt",
    "Authorization", "ap%69key", "access%5Ftoken", "session_id",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    [
        "GET /path?{}={} HTTP/1.1",
        "GET /path?limit=7&{}={}&next=1 HTTP/1.1",
        "'https://example.com/callback#{}={}'",
        "/verify?redirect_to=https%3A%2F%2Fexample.com%2F%3F{}%3D{}",
        "/verify?redirect_to=https://example.com/?{}={}",
    ],
)
def test_a_secret_parameter_of_an_address_is_redacted(text: str, name: str) -> None:
    written = redact(text.format(name, HIDDEN))
    assert HIDDEN not in written
    assert REDACTED in written


@pytest.mark.parametrize(
    "text",
    [
        "GET /notes?stars=gt.3&order=created_at&barcode=7&country=de HTTP/1.1",
        "the token = 7; code=8",
        "http://example.com:80/@ann?email=ann@example.com",
        "/sign-in",
        "/verify?redirect_to=https%3A%2F%2Fexample.com%2F%3Flimit%3D7",
    ],
)
def test_nothing_else_is(text: str) -> None:
    assert redact(text) == text


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("any", logging.INFO, "", 0, message, arguments, None)


@pytest.mark.parametrize(
    "written",
    [
        record(f"GET /?token={HIDDEN}"),
        record('%s - "WebSocket %s" %d', "127.0.0.1:1", f"/socket?apikey={HIDDEN}", 403),
        record("%(path)s", {"path": f"/?code={HIDDEN}"}),
        record("< %s: %s", "Authorization", f"Bearer {HIDDEN}"),
        record("< %s: %s", "apikey", HIDDEN),
        record("HTTP Request: %s", httpx.URL(f"https://example.com/?token={HIDDEN}")),
        record("HTTP Request: %s", httpx.URL(f"https://ann:{HIDDEN}@example.com/")),
        record(f"postgresql+psycopg://ann:{HIDDEN}@127.0.0.1:5432/app did not respond"),
        record("failed: %s", ValueError(f"https://example.com/?token={HIDDEN}")),
    ],
)
def test_messages_and_arguments_are_redacted(written: logging.LogRecord) -> None:
    assert RedactingFilter().filter(written)
    assert HIDDEN not in written.getMessage()


def test_tracebacks_are_redacted() -> None:
    try:
        raise ValueError(f"https://example.com/?token={HIDDEN} did not respond")
    except ValueError as error:
        failed = logging.LogRecord(
            "any", logging.ERROR, "", 0, "failed", None, (type(error), error, error.__traceback__)
        )
    RedactingFilter().filter(failed)
    for formatter in (logging.Formatter(), JsonLines()):
        written = formatter.format(failed)
        assert "did not respond" in written
        assert HIDDEN not in written


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[tuple[str, int]]:
    """An application with a WebSocket, served by uvicorn as people configure it themselves."""
    settings = load_settings(data_dir=tmp_path, secret_key=SECRET)
    app = Amphibase(settings).mount(FastAPI())

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None)
    server = UvicornServer(config, (ready := asyncio.Event()).set)
    task = asyncio.create_task(server.serve())
    await ready.wait()
    host, port = server.servers[0].sockets[0].getsockname()
    yield host, port
    server.should_exit = True
    await task


def test_every_logger_of_ours_redacts_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    """An application that `uvicorn` serves has handlers that know nothing of redaction."""
    for module in pkgutil.walk_packages(amphibase.__path__, "amphibase."):
        if module.name != "amphibase.__main__":
            importlib.import_module(module.name)
    loggers = [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if name.startswith("amphibase") and isinstance(logger, logging.Logger)
    ]
    assert len(loggers) > 5
    for logger in loggers:
        logger.warning("GET %s failed", f"/verify?token={HIDDEN}")
    assert caplog.text.count(REDACTED) == len(loggers)
    assert HIDDEN not in caplog.text


async def test_uvicorns_own_logs_hold_no_secret_of_an_address(
    address: tuple[str, int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("uvicorn.access", "uvicorn.error"):
        # Servers of other tests in this process have set them as they need them.
        caplog.set_level(logging.DEBUG, logger=name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    caplog.set_level(logging.DEBUG)
    host, port = address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        await client.get(f"/auth/email/verify?token={HIDDEN}&limit=7")
    for target in ("/socket", "/nowhere"):
        await shake_hands(host, port, f"{target}?apikey={HIDDEN}&limit=7", f"apikey: {HIDDEN}")
    lines = [line for line in caplog.messages if "limit=7" in line]
    uvicorns = [each for each in caplog.records if each.name.startswith("uvicorn")]
    assert {"uvicorn.access", "uvicorn.error"} <= {each.name for each in uvicorns}
    assert any("WebSocket /socket" in line for line in lines)
    assert HIDDEN not in "".join(caplog.messages)


def test_a_row_that_a_constraint_rejects_is_not_logged() -> None:
    row = '(7, ann@x, $2a$10$hush, {"a": "(b)"}, null)'
    error = f'violates check "x"\nDETAIL:  Failing row contains {row}.\nCONTEXT:  SQL at 1'
    assert redact(error) == (
        f'violates check "x"\nDETAIL:  Failing row contains ({REDACTED}).\nCONTEXT:  SQL at 1'
    )
    assert "hush" not in redact(f"Failing row contains {row}.")
    assert "hush" not in redact(f"(x) Failing row contains {row}\n[SQL: INSERT]")
