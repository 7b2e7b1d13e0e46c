"""Whatever is sent, it is accepted or rejected: nothing ends in an unexpected error."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.gateway.storage.api import TEN, Api

CALLS = (
    "POST /bucket",
    "PUT /bucket/b",
    "GET /bucket",
    "POST /object/list/b",
    "POST /object/list-v2/b",
    "POST /object/move",
    "POST /object/copy",
    "POST /object/sign/b",
    "POST /object/sign/b/a.txt",
    "DELETE /object/b",
    "POST /object/b/new",
    "POST /upload/resumable",
)
NAMES = [
    "name",
    "id",
    "public",
    "type",
    "file_size_limit",
    "allowed_mime_types",
    "limit",
    "offset",
    "search",
    "sortColumn",
    "sortOrder",
    "prefix",
    "prefixes",
    "sortBy",
    "column",
    "order",
    "cursor",
    "with_delimiter",
    "bucketId",
    "sourceKey",
    "destinationKey",
    "destinationBucket",
    "metadata",
    "cacheControl",
    "mimetype",
    "copyMetadata",
    "expiresIn",
    "paths",
]
TELLING = ["b", "a.txt", "", "%", "_", "\\", "'", "\0", "../x", "1e9", "20MB", "image/*", "desc"]
HEADERS = [
    "x-upsert",
    "range",
    "if-range",
    "if-none-match",
    "if-modified-since",
    "cache-control",
    "content-type",
    "x-metadata",
    "tus-resumable",
    "upload-length",
    "upload-metadata",
    "upload-offset",
]

texts = st.sampled_from(TELLING) | st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(NAMES), below, max_size=4)
    ),
    max_leaves=8,
)
bodies = st.dictionaries(st.sampled_from(NAMES), values, max_size=8)
visible = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
headers = st.dictionaries(st.sampled_from(HEADERS), visible, max_size=4)
queries = st.dictionaries(st.sampled_from(NAMES), texts, max_size=3)


@settings(max_examples=75, deadline=None, database=None, suppress_health_check=[*HealthCheck])
@given(st.sampled_from(CALLS), bodies, headers, queries)
async def test_it_is_taken_or_rejected(
    api: Api, call: str, body: Any, headers: dict[str, str], query: dict[str, str]
) -> None:
    if (await api.upload("b/a.txt", TEN, x_upsert="true")).status_code != 200:
        await api.post("/bucket", {"name": "b"})  # at first
        await api.upload("b/a.txt", TEN)
    method, _, path = call.partition(" ")
    response = await api.call(method, path, body, headers=headers, params=query)
    assert response.status_code < 500
