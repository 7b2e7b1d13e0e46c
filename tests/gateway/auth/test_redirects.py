"""Where links may lead: the rules of Supabase Auth, without a server."""

import pytest
from pydantic import ValidationError
from starlette.requests import Request

from amphibase.gateway.auth.redirects import Redirects, glob_to_regex
from amphibase.gateway.auth.settings import AuthSettings

SITE = "https://app.example.com"


@pytest.mark.parametrize(
    ("pattern", "url", "is_allowed"),
    [
        ("https://*.other.com/**", "https://a.other.com/x/y?z=1", True),
        ("https://*.other.com/**", "https://a.b.other.com/", False),
        ("https://*.other.com/**", "https://other.com/", False),
        ("https://other.com/*", "https://other.com/a", True),
        ("https://other.com/*", "https://other.com/a/b", False),
        ("https://other.com/*", "https://other.com/a.b", False),
        ("https://other.com/*", "https://other.com/a#b/c", True),
        ("https://other.com/?", "https://other.com/a", True),
        ("https://other.com/?", "https://other.com/ab", False),
        ("https://other.com/?", "https://other.com//", False),
        ("https://other.com/[a-c]", "https://other.com/b", True),
        ("https://other.com/[!a-c]", "https://other.com/b", False),
        ("https://{one,two}.com/", "https://two.com/", True),
        ("https://{one,two}.com/", "https://three.com/", False),
        ("https://{a*,b}.com/", "https://axe.com/", True),
        (r"https://other.com/\*", "https://other.com/*", True),
        (r"https://other.com/\*", "https://other.com/a", False),
        ("https://other.com:4000/", "https://other.com:4000/", True),
        ("https://other.com:4000/", "https://other.com/", False),
        ("https://other.com/**", "https://other.com:4000/", False),
        ("https://other.com/**", "https://other.com.evil.com/", False),
        ("https://other.com/in/**", "https://other.com/in/../out", True),
        ("app://callback", "app://callback?code=1", False),
        ("app://**", "app://callback?code=1", True),
        ("com.my_own.app://callback", "com.my_own.app://callback", True),
        ("exp://*.*.*.*:8081/**", "exp://192.168.0.7:8081/x", False),
    ],
)
def test_a_pattern_admits_what_supabase_auth_does(pattern: str, url: str, is_allowed: bool) -> None:
    assert Redirects(SITE, [pattern]).allows(url) is is_allowed


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("https://app.example.com/any/where?x=1#y", True),
        ("http://app.example.com/", False),
        ("https://app.example.com:4000/", False),
        ("http://127.0.0.1:5173/", True),
        ("http://[::1]:5173/", True),
        ("http://localhost:5173/", False),
        ("", False),
    ],
)
def test_without_patterns_only_the_site_and_this_machine_are_allowed(
    url: str, is_allowed: bool
) -> None:
    assert Redirects(SITE, []).allows(url) is is_allowed


def test_on_a_local_site_each_port_is_allowed() -> None:
    assert Redirects("http://localhost:3000", []).allows("http://localhost:5173/x")
    assert not Redirects("http://localhost:3000", []).allows("https://localhost:5173/x")


@pytest.mark.parametrize(
    "url",
    [
        "https://ann:secret@other.com/",
        "https://other.com@evil.com/",
        "https://2130706433/",
        "https://203.0.113.7/",
        "https://[2001:db8::7]/",
        "https:///evil.com",
        "https:evil.com",
        "https:/\\evil.com",
        "HTTPS:\\\\evil.com",
        "https://evil_host/",
        "https://évil.com/",
        "https://%65vil.com/",
        "https://evil.com:port/",
        "\thttps://evil.com/",
        "https://evil.com/ ",
        "javascript:alert(1)",
        "JavaScript://x/%0aalert(1)",
        "data:text/html,x",
    ],
)
def test_no_pattern_admits_a_url_that_hides_where_it_leads(url: str) -> None:
    assert not Redirects(SITE, ["**"]).allows(url)


def test_the_header_comes_before_the_query_and_the_referer_after_both() -> None:
    def led_to(query: str, **headers: str) -> str:
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "query_string": query.encode(), "headers": sent}
        return Redirects(SITE, ["https://*.com/"]).of(Request(scope))

    query = "redirect_to=https://query.com/"
    referer = "https://referer.com/"
    assert led_to(query, redirect_to="https://header.com/") == "https://header.com/"
    assert led_to(query, redirect_to="https://header.org/", referer=referer) == referer
    assert led_to(query, referer=referer) == "https://query.com/"
    assert led_to("redirect_to=https://query.org/") == SITE


def test_a_pattern_that_does_not_end_stops_the_start() -> None:
    with pytest.raises(ValidationError, match="is no pattern of URLs"):
        AuthSettings(uri_allow_list=("https://{a.com",))
    assert glob_to_regex("a}") == r"a\}"
