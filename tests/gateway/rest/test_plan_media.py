"""The body is made as the media type that is asked for."""

import pytest
from tests.gateway.rest.planner_database import PlannerDatabase

from amphibase.gateway.rest.plan.types import BodyFormat, Explain, Shape


@pytest.mark.parametrize(
    ("url", "media", "body"),
    [
        ("tags?id=eq.1", BodyFormat("object"), '{"id":1,"name":"red"}'),
        ("tags?id=eq.9", BodyFormat("object"), "null"),
        ("books?select=id,pages&id=eq.4", BodyFormat(strip_nulls=True), '[{"id":4}]'),
        ("books?select=id,pages&id=eq.4", BodyFormat("object", strip_nulls=True), '{"id":4}'),
        ("tags?order=id&limit=2", BodyFormat("csv"), "id,name\n1,red\n2,blue"),
        ("tags?id=eq.9", BodyFormat("csv"), "\n"),
        ("countries?id=eq.1&select=id,flag", BodyFormat("csv"),
         'id,flag\n1,"""#ff0000"""'),
        ("authors?id=eq.1&select=name,nicknames,born", BodyFormat("csv"),
         'name,nicknames,born\nAda,"{a,b}",1900-01-02'),
        ("tags", BodyFormat("none"), None),
    ],
)  # fmt: skip
async def test_rows_become_the_media_type(
    database: PlannerDatabase, url: str, media: BodyFormat, body: str | None
) -> None:
    assert (await database.request("read", url, media=media)).body == body


@pytest.mark.parametrize(
    ("name", "content", "sent", "shape", "body", "is_bytes"),
    [
        ("echo", "binary", b"\x00\xff", "scalar", b"\x00\xff", True),
        ("letters", "text", b"abc", "scalar", "ABC", False),
        ("letters", "text", b"abc", "array", '"ABC"', None),
        ("letters", "text", b"abc", "csv", "pgrst_scalar\nABC", None),
        ("size", "binary", b"\x00\xff", "array", "2", None),
    ],
)
async def test_a_value_is_given_as_it_is(
    database: PlannerDatabase,
    name: str,
    content: str,
    sent: bytes,
    shape: Shape,
    body: str | bytes,
    is_bytes: bool | None,
) -> None:
    media_type = "application/octet-stream" if content == "binary" else "text/plain"
    response = await database.request(
        "call", name, sent, media_type=media_type, content=content, media=BodyFormat(shape)
    )
    assert (response.body, response.is_bytes) == (body, is_bytes)


async def test_a_plan_is_explained_and_nothing_is_done(database: PlannerDatabase) -> None:
    media = BodyFormat(explain=Explain("json", ("verbose", "settings")))
    compiled = database.compile("delete", "tags?id=eq.3", media=media)
    call = compiled.main.bind(["3"])
    [[[explained]]] = await database.run(call.statement.sql, call.values)
    assert "Plan" in explained
    assert len(await database.read("tags")) == 3
    media = BodyFormat(explain=Explain("text", ("analyze", "buffers", "wal")))
    call = database.compile("read", "tags?id=eq.3", media=media).main.bind(["3"])
    lines = [line for (line,) in await database.run(call.statement.sql, call.values)]
    assert any("actual" in line for line in lines)


async def test_a_handler_renders_the_rows_of_its_table(database: PlannerDatabase) -> None:
    [handler] = (each for each in database.catalog.media_handlers if each.is_aggregate)
    response = await database.request(
        "read", "tags?order=id&id=lt.3", media=BodyFormat("handler", handler=handler)
    )
    assert (response.body, response.is_bytes) == ("red/blue", False)


async def test_geography_needs_its_extension(database: PlannerDatabase) -> None:
    sql = database.compile("read", "tags", media=BodyFormat("geojson")).main.statement.sql
    assert "'FeatureCollection'" in sql
    assert "ST_AsGeoJSON" in sql


async def test_settings_of_functions_come_with_the_response(database: PlannerDatabase) -> None:
    await database.connection.execute("SET LOCAL response.status = '418'")
    await database.connection.execute("""SET LOCAL response.headers = '[{"a": "b"}]'""")
    response = await database.request("read", "tags")
    assert (response.status, response.headers) == ("418", '[{"a": "b"}]')
