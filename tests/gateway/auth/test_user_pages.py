"""Which users a list of the administration has, and how it is paged."""

from base64 import urlsafe_b64encode
from urllib.parse import urlencode

import pytest
from tests.gateway.auth.api import SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth

NAIVE_CURSOR = (
    urlsafe_b64encode(
        b'{"created_at": "2026-01-01T00:00:00", "id": "00000000-0000-0000-0000-000000000000"}'
    )
    .decode()
    .rstrip("=")
)


async def test_users_are_listed_by_pages_newest_first(api: Api) -> None:
    for number in range(5):
        await api.create(f"user{number}@example.com", password=None)
    response = await api.get("/admin/users?page=2&per_page=2", token=SERVICE)
    body = response.json()
    assert body["aud"] == "authenticated"
    assert [user["email"] for user in body["users"]] == ["user2@example.com", "user1@example.com"]
    assert response.headers["x-total-count"] == "5"
    assert response.headers["link"] == (
        '</admin/users?page=3&per_page=2>; rel="next", </admin/users?page=3&per_page=2>; rel="last"'
    )
    last = await api.get("/admin/users?page=3&per_page=2", token=SERVICE)
    assert 'rel="next"' not in last.headers["link"]
    assert len(last.json()["users"]) == 1


@pytest.mark.parametrize("sort", ["", "&sort=created_at asc"])
async def test_users_are_listed_after_a_cursor_where_that_is_enabled(
    serve: ServeAuth, sort: str
) -> None:
    api = await serve(experimental_cursor_pagination_enabled=True)
    users = [(await api.create(f"{name}@example.com"))["id"] for name in "abc"]
    api.rows("UPDATE auth.users SET created_at = '2030-01-01' WHERE id = ANY(%s)", users[:2])
    path = f"/admin/users?limit=2&filter=@{sort}"
    first = await api.get(path, token=SERVICE)
    pagination = first.json()["pagination"]
    cursor = pagination["next_cursor"]
    assert pagination["has_more"] is True
    link = first.headers["link"]
    assert link.startswith(f"</admin/users?cursor={cursor}&filter=%40&limit=2")
    assert link.endswith('>; rel="next"')
    assert "x-total-count" not in first.headers
    second = await api.get(f"{path}&cursor={cursor}", token=SERVICE)
    assert second.json()["pagination"] == {"has_more": False}
    assert "link" not in second.headers
    newest_first = [*sorted(users[:2], reverse=True), users[2]]
    listed = [user["id"] for page in (first, second) for user in page.json()["users"]]
    assert listed == (newest_first[::-1] if sort else newest_first)
    numbered = await api.get("/admin/users?per_page=2", token=SERVICE)
    assert "pagination" not in numbered.json()


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("limit=0", "limit must be greater than 0"),
        ("limit=x", 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("cursor=!", "invalid cursor encoding: illegal base64 data at input byte 0"),
        ("cursor=abc", "invalid cursor: invalid character 'i' looking for beginning of value"),
        ("cursor=e30", "invalid cursor: missing id"),
        ("cursor=W10", "invalid cursor: missing id"),
        (f"cursor={NAIVE_CURSOR}", "invalid cursor: missing created_at"),
    ],
)
async def test_a_cursor_that_is_none_is_rejected(serve: ServeAuth, query: str, reason: str) -> None:
    api = await serve(experimental_cursor_pagination_enabled=True)
    response = await api.get(f"/admin/users?{query}", token=SERVICE)
    assert rejection(response) == (400, "validation_failed")
    assert response.json()["message"] == f"Bad Pagination Parameters: {reason}"


@pytest.mark.parametrize(
    ("text", "emails"),
    [
        ("ann@", ["joann@example.com", "ann@example.com"]),
        ("ANN@", []),
        ("ANN LEE", ["bob@example.com"]),
        ("a%n@", ["joann@example.com", "ann@example.com"]),
        ("nobody", []),
        ("", ["bob@example.com", "joann@example.com", "ann@example.com"]),
    ],
)
async def test_users_are_found_by_a_part_of_their_address_or_name(
    api: Api, text: str, emails: list[str]
) -> None:
    for email, name in (("ann@x", None), ("joann@x", None), ("bob@x", "Ann Lee")):
        metadata = {"full_name": name} if name else {}
        await api.create(email.replace("@x", "@example.com"), user_metadata=metadata)
    response = await api.get(f"/admin/users?{urlencode({'filter': text})}", token=SERVICE)
    assert [user["email"] for user in response.json()["users"]] == emails
    assert response.headers["x-total-count"] == str(len(emails))


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("page=x", 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("per_page=-1", 'strconv.ParseUint: parsing "-1": invalid syntax'),
        ("page=99999999999999999999",
         'strconv.ParseUint: parsing "99999999999999999999": value out of range'),
        ("per_page=0", "per_page must be greater than 0"),
    ],
)  # fmt: skip
async def test_a_page_that_is_none_is_rejected(api: Api, query: str, reason: str) -> None:
    response = await api.get(f"/admin/users?{query}", token=SERVICE)
    assert rejection(response) == (400, "validation_failed")
    assert response.json()["message"] == f"Bad Pagination Parameters: {reason}"


@pytest.mark.parametrize(
    ("query", "link"),
    [
        ("", '</admin/users?page=1>; rel="last"'),
        ("?page=0&sort=created_at",
         '</admin/users?page=1&sort=created_at>; rel="next", '
         '</admin/users?page=1&sort=created_at>; rel="last"'),
        ("?page=1&filter=a&per_page=2", '</admin/users?filter=a&page=1&per_page=2>; rel="last"'),
        ("?page=9&filter=none", '</admin/users?filter=none&page=0>; rel="last"'),
    ],
)  # fmt: skip
async def test_links_to_pages_are_written_as_by_supabase_auth(
    api: Api, query: str, link: str
) -> None:
    await api.create()
    response = await api.get(f"/admin/users{query}", token=SERVICE)
    assert (response.status_code, response.headers["link"]) == (200, link)


async def test_a_list_is_of_one_audience_and_has_no_identities(api: Api) -> None:
    other = {"x-jwt-aud": "other"}
    await api.create()
    body = {"email": "bob@example.com"}
    created = await api.post("/admin/users", body, token=SERVICE, headers=other)
    assert created.json()["aud"] == "other"
    for headers, audience, email in (
        ({}, "authenticated", "ann@example.com"),
        (other, "other", "bob@example.com"),
    ):
        response = await api.get("/admin/users", token=SERVICE, headers=headers)
        (user,) = response.json()["users"]
        assert (response.json()["aud"], user["email"]) == (audience, email)
        assert (user["identities"], response.headers["x-total-count"]) == (None, "1")


@pytest.mark.parametrize(
    ("query", "is_newest_first"),
    [
        ("", True),
        ("page=0", True),
        ("sort=created_at", True),
        ("sort=created_at+desc", True),
        ("sort=created_at+ASC", False),
    ],
)
async def test_users_are_sorted_by_their_creation(
    api: Api, query: str, is_newest_first: bool
) -> None:
    emails = ["ann@example.com", "bob@example.com"]
    for email in emails:
        await api.create(email)
    users = (await api.get(f"/admin/users?{query}", token=SERVICE)).json()["users"]
    assert [user["email"] for user in users] == (emails[::-1] if is_newest_first else emails)


@pytest.mark.parametrize(
    ("sort", "reason"),
    [
        ("email", "bad field for sort 'email'"),
        (
            "created_at up",
            "bad direction for sort 'up', only 'asc' and 'desc' allowed",
        ),
    ],
)
async def test_users_are_sorted_by_nothing_else(api: Api, sort: str, reason: str) -> None:
    response = await api.get(f"/admin/users?{urlencode({'sort': sort})}", token=SERVICE)
    assert rejection(response) == (400, "validation_failed")
    assert response.json()["message"] == f"Bad Sort Parameters: {reason}"
