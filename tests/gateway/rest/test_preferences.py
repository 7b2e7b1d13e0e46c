"""Preferences are heeded, and told in `Preference-Applied`, as PostgREST documents them."""

from typing import Any

import pytest
from tests.gateway.rest.data_api import DataApi

ALL = (
    "return=representation,count=exact,tx=commit,missing=default,handling=lenient,timezone=UTC,"
    "resolution=merge-duplicates"
)
LENIENT = "handling=lenient, timezone=UTC"


@pytest.mark.parametrize(
    ("request_line", "body", "prefer", "applied"),
    [
        ("GET /works", None, ALL, f"count=exact, tx=commit, {LENIENT}"),
        ("POST /works", [], ALL, "resolution=merge-duplicates, missing=default, "
         f"return=representation, count=exact, tx=commit, {LENIENT}"),
        ("POST /notes", [], ALL, "missing=default, return=representation, count=exact, tx=commit, "
         f"{LENIENT}"),
        ("PATCH /works?id=eq.99", {"minutes": 1}, ALL, "missing=default, return=representation, "
         f"count=exact, tx=commit, {LENIENT}"),
        ("PUT /works?id=eq.1", {"id": 1}, ALL.replace("tx=commit", "tx=rollback"),
         f"return=representation, count=exact, tx=rollback, {LENIENT}"),
        ("DELETE /works?id=eq.99", None, ALL, "return=representation, count=exact, tx=commit, "
         f"{LENIENT}"),
        ("GET /rpc/names", None, ALL, f"count=exact, tx=commit, {LENIENT}"),
        ("DELETE /works?id=eq.99", None, "handling=strict,max-affected=5",
         "handling=strict, max-affected=5"),
        ("DELETE /works?id=eq.99", None, "max-affected=5", None),
        ("DELETE /works?id=eq.99", None, "handling=strict,max-affected=many", "handling=strict"),
        ("POST /works", [], "return=headers-only", "return=headers-only"),
        ("GET /works", None, "count=planned, count=exact", "count=planned"),
        ("GET /works", None, "foo, bar=1, count=many, timezone=Nowhere", None),
    ],
)  # fmt: skip
async def test_what_was_heeded_is_reported(
    api: DataApi, request_line: str, body: Any, prefer: str, applied: str | None
) -> None:
    response = await api.request(request_line, body, prefer=prefer)
    assert response.is_success, response.text
    assert response.headers.get("preference-applied") == applied


@pytest.mark.parametrize(
    ("prefer", "details"),
    [
        ("handling=strict, foo, bar", "Invalid preferences: foo, bar"),
        ("count=many, handling=strict", "Invalid preferences: count=many"),
        ("handling=strict, timezone=Nowhere", "Invalid preferences: timezone=Nowhere"),
        ("handling=strict, timezone=0530", "Invalid preferences: timezone=0530"),
    ],
)
async def test_strictly_what_is_no_preference_is_rejected(
    api: DataApi, prefer: str, details: str
) -> None:
    response = await api.request("GET /works", prefer=prefer)
    assert response.status_code == 400
    assert response.json() == {
        "code": "PGRST122",
        "message": "Invalid preferences given with handling=strict",
        "details": details,
        "hint": None,
    }


async def test_times_are_reported_in_the_zone_preferred(api: DataApi) -> None:
    url = "/concerts?select=at&id=eq.1"
    assert await api.read(url, prefer="timezone=America/Los_Angeles") == [
        {"at": "2020-05-01T12:00:00-07:00"}
    ]
    for offset, at in (
        ("-4", "15:00:00-04:00"),
        ("5", "00:00:00+05:00"),
        ("05:30", "13:30:00-05:30"),
    ):
        (row,) = await api.read(url, prefer=f"handling=strict, timezone={offset}")
        assert row["at"].endswith(at), offset
    elsewhere = await api.read(url, prefer="timezone=Jupiter/Red_Spot")
    assert elsewhere == await api.read(url)


@pytest.mark.parametrize(
    ("request_line", "body"),
    [("PATCH /notes", {"b": "x"}), ("DELETE /notes", None)],
)
async def test_more_rows_than_preferred_are_not_changed(
    api: DataApi, request_line: str, body: Any
) -> None:
    prefer = "tx=commit, max-affected=1"
    response = await api.request(request_line, body, prefer=f"{prefer}, handling=strict")
    assert response.status_code == 400
    assert response.json() == {
        "code": "PGRST124",
        "message": "Query result exceeds max-affected preference constraint",
        "details": "The query affects 2 rows",
        "hint": None,
    }
    assert await api.read("/notes") == [{"a": 1, "b": "one"}, {"a": 2, "b": "two"}]
    leniently = await api.request(request_line, body, prefer="max-affected=1")
    assert leniently.status_code == 204


async def test_no_number_of_rows_is_too_many_to_insert(api: DataApi) -> None:
    rows = [{"a": 8}, {"a": 9}]
    response = await api.request("POST /notes", rows, prefer="handling=strict, max-affected=1")
    assert response.status_code == 201
    assert response.headers["preference-applied"] == "handling=strict"


async def test_of_functions_those_of_rows_alone_may_be_limited(api: DataApi) -> None:
    prefer = "handling=strict, max-affected=1"
    response = await api.request("POST /rpc/works_of", {"composer": 1}, prefer=prefer)
    assert (response.status_code, response.json()["code"]) == (400, "PGRST124")
    response = await api.request("POST /rpc/add", {"a": 1}, prefer=prefer)
    assert (response.status_code, response.json()["code"]) == (400, "PGRST128")
    assert response.json()["message"] == (
        "Function must return SETOF or TABLE when max-affected preference is used with "
        "handling=strict"
    )


@pytest.mark.parametrize(("end", "left"), [("commit", 1), ("rollback", 0)])
async def test_a_transaction_ends_as_preferred(api: DataApi, end: str, left: int) -> None:
    await api.request("POST /badges", {"name": end}, prefer=f"tx={end}")
    assert len(await api.read(f"/badges?name=eq.{end}")) == left


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_deferred_constraints_are_checked_however_a_transaction_ends(
    api: DataApi, end: str
) -> None:
    response = await api.request("POST /pages", {"id": 1, "next": 9}, prefer=f"tx={end}")
    assert (response.status_code, response.json()["code"]) == (409, "23503")
