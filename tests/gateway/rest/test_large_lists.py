"""A list that is too large for one value is read row by row, and has the same bytes."""

import errno
import os
import tempfile
from typing import Any

import pytest
from tests.gateway.rest.data_api import DataApi

from amphibase.gateway.rest import handler
from amphibase.gateway.rest.sql import statement
from amphibase.gateway.rest.transaction import spool as spooling
from amphibase.gateway.rest.transaction.spool import SpooledRows

LISTS = [
    "/works?select=id,title,composers!works_composer(name)&order=id",
    "/works?select=*&order=id.desc&limit=2&offset=1",
    "/works?title=in.(Sonata,Psalm)&select=title,data",
    "/composers?select=name,works!works_composer(id,scores(*))&order=name",
    "/rpc/works_of?composer=1&select=title,scores(*)&order=id",
    "/works?select=minutes.sum(),...composers!works_composer(name)&order=composers(name)",
]


@pytest.fixture
def spooled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Nothing fits one value: the files that lists are read into instead."""
    files: list[Any] = []
    temporary_file = tempfile.TemporaryFile

    def opened(*args: Any, **more: Any) -> Any:
        files.append(temporary_file(*args, **more))
        return files[-1]

    monkeypatch.setattr(statement, "MAX_BODY_BYTES", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", opened)
    return files


@pytest.mark.parametrize("accept", ["", "application/vnd.pgrst.array+json;nulls=stripped"])
@pytest.mark.parametrize("prefer", ["", "count=exact"])
@pytest.mark.parametrize("url", LISTS)
async def test_a_large_list_is_the_same_from_a_file(
    api: DataApi, spooled: list[Any], url: str, prefer: str, accept: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # Another filter makes another statement, which is not in the cache.
    large = await api.request(f"GET {url}&id=gt.-1", prefer=prefer, accept=accept)
    monkeypatch.undo()
    whole = await api.request(f"GET {url}&id=gte.0", prefer=prefer, accept=accept)
    assert len(spooled) == 1
    assert spooled[0].closed
    assert (large.status_code, large.content) == (whole.status_code, whole.content)
    names = ("content-type", "content-range", "content-length", "preference-applied")
    assert [large.headers.get(name) for name in names] == [
        whole.headers.get(name) for name in names
    ]


async def test_many_rows_of_any_size_are_read_in_several_fetches(
    api: DataApi, spooled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": number, "j": {"text": "x" * (number * 7000 % 50_000)}} for number in range(300)]
    created = await api.request("POST /numbers", rows, prefer="tx=commit")
    assert created.status_code == 201
    try:
        assert await api.read("/numbers?select=id,j&order=id") == rows
        assert len(spooled) == 1
    finally:
        await api.request("DELETE /numbers", prefer="tx=commit")


async def test_an_error_of_a_row_that_came_meanwhile_is_the_response(
    api: DataApi, spooled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spool(*arguments: Any) -> SpooledRows:
        await api.request("POST /numbers", {"id": 2, "j": {"n": "x"}}, prefer="tx=commit")
        return await spooling.spool(*arguments)

    monkeypatch.setattr(handler, "spool", spool)
    await api.request("POST /numbers", {"id": 1, "j": {"n": "1"}}, prefer="tx=commit")
    try:
        response = await api.request("GET /numbers?select=n:j->>n::int&order=id")
        assert (response.status_code, response.json()["code"]) == (400, "22P02")
        assert [file.closed for file in spooled] == [True]
    finally:
        await api.request("DELETE /numbers", prefer="tx=commit")


async def test_a_status_without_a_body_sends_no_file(spooled: list[Any], api: DataApi) -> None:
    url = "/rpc/works_with_status?select=title&id=gt.-4"
    response = await api.request(f"GET {url}", headers={"X-Status": "204"})
    assert (response.status_code, response.content) == (204, b"")
    assert [file.closed for file in spooled] == [True]


async def test_a_temporary_file_that_cannot_be_written_is_503(
    api: DataApi, spooled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    response = await api.request("GET /works?id=gt.-3")
    assert response.status_code == 503
    assert response.json()["code"] == "53100"
    assert "No space left" in response.json()["message"]
