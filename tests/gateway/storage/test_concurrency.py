"""Many who change the same files at once."""

import asyncio
import random
from typing import Any
from uuid import UUID

import pytest
from tests.gateway.storage.api import TEN, Api

from amphibase.blobs.disk import DiskBlobs
from amphibase.gateway.storage import object_rows

CONTENTS = [bytes([each]) * 50_000 for each in range(1, 21)]


def assert_that_bytes_and_rows_belong_together(api: Api) -> None:
    named = {version for (version,) in api.rows("SELECT version FROM storage.objects")}
    assert {path.name for path in api.blobs()} == named


@pytest.mark.parametrize("seed", range(3))
async def test_of_many_changes_of_a_path_each_happens_wholly_or_not(api: Api, seed: int) -> None:
    await api.bucket()
    await api.uploaded("b/one")
    there = {"bucketId": "b", "sourceKey": "one", "destinationKey": "two"}
    back = {"bucketId": "b", "sourceKey": "two", "destinationKey": "one"}
    calls = [
        *(api.upload("b/one", content, x_upsert="true") for content in CONTENTS[:6]),
        *(api.upload("b/one", content) for content in CONTENTS[6:8]),
        *(api.delete("/object/b/one") for _ in range(12)),
        api.delete("/object/b", {"prefixes": ["one", "two"]}),
        api.delete("/object/b", {"prefixes": ["two", "one"]}),
        *(api.post("/object/move", there) for _ in range(3)),
        *(api.post("/object/move", back) for _ in range(2)),
        *(api.post("/object/copy", there, headers={"x-upsert": "true"}) for _ in range(2)),
    ]
    random.Random(seed).shuffle(calls)
    responses = await asyncio.gather(*calls)
    assert {response.status_code for response in responses} <= {200, 400}
    assert {
        response.json()["statusCode"] for response in responses if response.status_code == 400
    } <= {
        "404",
        "409",
    }
    for name in await api.names():
        assert (await api.get(f"/object/b/{name}")).content in (TEN, *CONTENTS)
    assert_that_bytes_and_rows_belong_together(api)


async def test_who_replaces_a_file_is_told_the_row_that_holds_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.bucket()
    await api.uploaded()
    add, tries, deleting = object_rows.add, [], []

    async def late(*arguments: Any, **named: Any) -> None:
        tries.append(arguments)
        if len(tries) == 2:  # the first is undone
            deleting.append(asyncio.create_task(api.delete("/object/b/a.txt")))
            await asyncio.wait(deleting, timeout=0.5)
        await add(*arguments, **named)

    monkeypatch.setattr(object_rows, "add", late)
    stored = await api.upload(content=b"new", x_upsert="true")
    deleted = await deleting[0]
    assert (stored.status_code, deleted.status_code) == (200, 200)
    rows = api.rows("SELECT id::text FROM storage.objects")
    assert rows in ([], [(stored.json()["Id"],)])
    assert_that_bytes_and_rows_belong_together(api)


async def test_what_is_replaced_while_it_is_copied_is_copied_as_it_is_then(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.bucket()
    await api.uploaded()
    copy = DiskBlobs.copy

    async def late(self: DiskBlobs, *versions: UUID) -> None:
        monkeypatch.setattr(DiskBlobs, "copy", copy)
        await api.uploaded(content=b"newer", kind="text/x", x_upsert="true")
        await copy(self, *versions)

    monkeypatch.setattr(DiskBlobs, "copy", late)
    body = {"bucketId": "b", "sourceKey": "a.txt", "destinationKey": "b.txt"}
    copied = await api.post("/object/copy", body)
    assert copied.status_code == 200, copied.text
    read = await api.get("/object/b/b.txt")
    assert (read.content, read.headers["content-type"]) == (b"newer", "text/x")
    assert_that_bytes_and_rows_belong_together(api)


async def test_files_that_many_delete_at_once_are_each_reported_once(api: Api) -> None:
    await api.bucket()
    names = [f"{each}.txt" for each in range(60)]
    for start in range(0, 60, 20):
        await asyncio.gather(*(api.uploaded(f"b/{name}") for name in names[start : start + 20]))
    orders = [random.Random(each).sample(names, len(names)) for each in range(20)]
    responses = await asyncio.gather(
        *(api.delete("/object/b", {"prefixes": order}) for order in orders),
        api.post("/bucket/b/empty"),
    )
    assert {response.status_code for response in responses} == {200}
    deleted = [row["name"] for response in responses[:-1] for row in response.json()]
    assert len(deleted) == len(set(deleted))
    assert (await api.names(), api.blobs()) == ([], [])
