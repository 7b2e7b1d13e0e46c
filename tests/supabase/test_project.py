"""The settings of a Supabase project: one line for each mistake, at start."""

import base64
import json

import pytest
from tests.backends import SECRET

from amphibase import ConfigurationError, load_settings
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.build import build_backend
from amphibase.supabase.project import SupabaseProject


def api_key(**claims: str) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).decode() for part in parts), "signature"])


ANON = api_key(role="anon", ref="abc")
SERVICE = api_key(role="service_role", ref="abc")
RIGHT = {
    "supabase_url": "https://abc.supabase.co/",
    "supabase_anon_key": ANON,
    "supabase_service_key": SERVICE,
}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"supabase_url": None}, "SUPABASE_URL: "),
        ({"supabase_anon_key": None}, "SUPABASE_ANON_KEY: "),
        ({"supabase_service_key": None}, "SUPABASE_SERVICE_KEY: "),
        ({"supabase_anon_key": SERVICE}, "SUPABASE_ANON_KEY: has the role 'service_role'"),
        ({"supabase_service_key": ANON}, "SUPABASE_SERVICE_KEY: has the role 'anon'"),
        ({"supabase_anon_key": "sb_secret_x"}, "SUPABASE_ANON_KEY: needs a key that begins with"),
        ({"supabase_service_key": "sb_publishable_x"}, "SUPABASE_SERVICE_KEY: needs a key that"),
        ({"supabase_service_key": "nonsense"}, "SUPABASE_SERVICE_KEY: is neither"),
        ({"supabase_url": "https://other.supabase.co"}, "is of the project abc, and SUPABASE_URL"),
    ],
)
def test_a_wrong_setting_is_one_line_without_its_value(
    overrides: dict[str, str | None], message: str
) -> None:
    settings = load_settings(**{**RIGHT, **overrides}, secret_key=SECRET, backend="supabase")
    with pytest.raises(ConfigurationError) as caught:
        build_backend(settings, load_keys(settings))
    assert message in caught.value.detail
    assert "\n" not in caught.value.detail
    assert SERVICE not in caught.value.detail


def test_an_opaque_key_is_not_sent_as_a_token() -> None:
    opaque = {"supabase_anon_key": "sb_publishable_x", "supabase_service_key": "sb_secret_x"}
    project = SupabaseProject.of(load_settings(**{**RIGHT, **opaque}))
    assert project.anon_key.headers == {"apikey": "sb_publishable_x"}
    assert project.service_key.headers == {"apikey": "sb_secret_x"}


def test_a_token_key_is_sent_as_both() -> None:
    project = SupabaseProject.of(load_settings(**RIGHT))
    assert project.url == "https://abc.supabase.co"
    assert project.anon_key.headers == {"apikey": ANON, "Authorization": f"Bearer {ANON}"}


def test_keys_are_not_shown() -> None:
    project = SupabaseProject.of(load_settings(**RIGHT, supabase_jwt_secret="hidden"))
    for secret in (ANON, SERVICE, "hidden"):
        assert secret not in repr(project)
