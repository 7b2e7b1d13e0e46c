"""The body is made as the media type that is asked for."""

import pytest
from tests.gateway.rest.library import Library

from amphibase.gateway.rest.plan.types import Explain, Media, Shape


@pytest.mark.parametrize(
    ("url", "media", "body"),
    [
        ("tags?id=eq.1", Media("object"), '{"id":1,"name":"red"}'),
        ("tags?id=eq.9", Media("object"), "null"),
        ("books?select=id,pages&id=eq.4", Media(strip_nulls=True), '[{"id":4}]'),
        ("books?select=id,pages&id=eq.4", Media("object", strip_nulls=True), '{"id":4}'),
        ("tags?order=id&limit=2", Media("csv"), "id,name\n1,red\n2,blue"),
        ("tags?id=eq.9", Media("csv"), "\n"),
        ("countries?id=eq.1&select=id,flag", Media("csv"), "id,flag\n1,16711680"),
        ("authors?id=eq.1&select=name,nicknames,born", Media("csv"),
         'name,nicknames,born\nAda,"{a,b}",1900-01-02'),
        ("tags", Media("none"), None),
    ],
)  # fmt: skip
async def test_rows_become_the_media_type(
    library: Library, url: str, media: Media, body: str | None
) -> None:
    assert (await library.ask("read", url, media=media)).body == body


@pytest.mark.parametrize(
    ("name", "content", "sent", "shape", "body", "is_bytes"),
    [
        ("echo", "binary", b"\x00\xff", "scalar", b"\x00\xff", True),
        ("letters", "text", b"abc", "scalar", "ABC", False),
        ("letters", "text", b"abc", "array", '"ABC"', None),
        ("letters", "text", b"abc", "csv", "letters\nABC", None),
        ("size", "binary", b"\x00\xff", "array", "2", None),
    ],
)
async def test_a_value_is_given_as_it_is(
    library: Library,
    name: str,
    content: str,
    sent: bytes,
    shape: Shape,
    body: str | bytes,
    is_bytes: bool | None,
) -> None:
    media_type = "application/octet-stream" if content == "binary" else "text/plain"
    answer = await library.ask(
        "call", name, sent, media_type=media_type, content=content, media=Media(shape)
    )
    assert (answer.body, answer.is_bytes) == (body, is_bytes)


async def test_a_plan_is_explained_and_nothing_is_done(library: Library) -> None:
    media = Media(explain=Explain("json", ("verbose", "settings")))
    compiled = library.compile("delete", "tags?id=eq.3", media=media)
    call = compiled.main.bind(["3"])
    [[[explained]]] = await library.run(call.statement.sql, call.values)
    assert "Plan" in explained
    assert len(await library.read("tags")) == 3
    media = Media(explain=Explain("text", ("analyze", "buffers", "wal")))
    call = library.compile("read", "tags?id=eq.3", media=media).main.bind(["3"])
    lines = [line for (line,) in await library.run(call.statement.sql, call.values)]
    assert any("actual" in line for line in lines)


async def test_a_handler_renders_the_rows_of_its_table(library: Library) -> None:
    [handler] = (each for each in library.catalog.media_handlers if each.is_aggregate)
    answer = await library.ask(
        "read", "tags?order=id&id=lt.3", media=Media("handler", handler=handler)
    )
    assert (answer.body, answer.is_bytes) == ("red/blue", False)


async def test_geography_needs_its_extension(library: Library) -> None:
    sql = library.compile("read", "tags", media=Media("geojson")).main.statement.sql
    assert "'FeatureCollection'" in sql
    assert "ST_AsGeoJSON" in sql


async def test_settings_of_functions_come_with_the_answer(library: Library) -> None:
    await library.connection.execute("SET LOCAL response.status = '418'")
    await library.connection.execute("""SET LOCAL response.headers = '[{"a": "b"}]'""")
    answer = await library.ask("read", "tags")
    assert (answer.status, answer.headers) == ("418", '[{"a": "b"}]')
