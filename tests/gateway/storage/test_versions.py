"""Versions of objects, which are not kept: whoever asks for one hears so."""

from typing import Any

import pytest
from tests.gateway.storage.api import TEN, Api

TO = {"bucketId": "b", "sourceKey": "a.txt", "destinationKey": "c.txt"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/bucket", {"name": "new", "versioning_status": "ENABLED"}),
        ("PUT", "/bucket/b", {"versioning_status": "SUSPENDED"}),
        ("POST", "/object/copy", {**TO, "sourceVersionId": "x"}),
        ("POST", "/object/move", {**TO, "sourceVersionId": "x"}),
        ("POST", "/object/sign/b/a.txt", {"expiresIn": 60, "versionId": "x"}),
        ("POST", "/object/list/b", {"prefix": "", "noncurrentVersions": "only"}),
        ("POST", "/object/list-v2/b", {"noncurrentVersions": "include"}),
        ("POST", "/object/list-v2/b", {"deleteMarkers": "only"}),
        ("POST", "/object/list-v2/b", {"prefix": "a", "exactMatch": True}),
        ("GET", "/object/b/a.txt?versionId=x", None),
        ("GET", "/object/public/b/a.txt?versionId=x", None),
        ("GET", "/object/info/b/a.txt?versionId=x", None),
        ("GET", "/render/image/authenticated/b/a.txt?versionId=x", None),
    ],
)
async def test_a_request_that_needs_versions_is_rejected(
    api: Api, method: str, path: str, body: Any
) -> None:
    await api.bucket(public=True)
    await api.uploaded("b/a.txt")
    response = await api.call(method, path, body)
    assert response.status_code == 400
    assert (response.json()["error"], response.json()["statusCode"]) == ("NotSupported", "409")
    assert "keeps one version of each object" in response.json()["message"]
    assert await api.names() == ["a.txt"]


async def test_a_request_that_excludes_versions_is_served(api: Api) -> None:
    created = await api.call("POST", "/bucket", {"name": "b", "versioning_status": "DISABLED"})
    assert created.status_code == 200, created.text
    await api.uploaded("b/a.txt")
    body = {"prefix": "", "noncurrentVersions": "exclude", "exactMatch": False}
    listed = await api.call("POST", "/object/list/b", body)
    assert [each["name"] for each in listed.json()] == ["a.txt"]
    copied = await api.call("POST", "/object/copy", {**TO, "sourceVersionId": None})
    assert copied.status_code == 200, copied.text
    assert (await api.get("/object/authenticated/b/c.txt")).content == TEN
