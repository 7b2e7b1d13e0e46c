"""A project's tokens: who signs them, and whose are taken."""

import json
import stat
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from tests.gateway.conftest import ProjectDatabase
from tests.websockets import connect

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_file import read_jwks, write_key_file
from amphibase.accounts.jwt.verifier import TokenRejected
from amphibase.errors import ConfigurationError
from amphibase.gateway.build import Project, build, check
from amphibase.gateway.keys import ApiKeys, api_key
from amphibase.gateway.service_roles import role_urls

SECRET = "a secret of one's own that is long enough for HS256"
KEYS = ApiKeys(SECRET, api_key(SECRET, "anon"), api_key(SECRET, "service_role"))


def project_in(folder: Path, *, signs_with_secret: bool = False, jwks: str = "") -> Project:
    return Project(
        roles=role_urls("postgresql://owner@db/x", "a password"),
        url="http://127.0.0.1:54321",
        folder=folder,
        keys=KEYS,
        signs_with_secret=signs_with_secret,
        foreign_keys=read_jwks(jwks) if jwks else [],
    )


def test_users_tokens_are_signed_by_a_key_of_the_folder_that_stays(tmp_path: Path) -> None:
    token = project_in(tmp_path).tokens.issue({"role": "authenticated"})
    assert jwt.get_unverified_header(token)["alg"] == "ES256"
    assert project_in(tmp_path).tokens.verify(token)["role"] == "authenticated"


def test_a_folder_gets_its_signing_key_when_it_is_first_used(tmp_path: Path) -> None:
    tokens = project_in(tmp_path).tokens
    derived = tokens.derive("refresh token")
    assert tokens.verify(KEYS.anon)["role"] == "anon"
    assert [path.name for path in tmp_path.iterdir()] == ["root.key"]
    tokens.issue({"role": "authenticated"})
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"root.key": 0o600, "keys.json": 0o600}
    assert project_in(tmp_path).tokens.derive("refresh token") == derived


def test_who_uses_a_folder_for_the_first_time_at_once_has_the_same_keys(tmp_path: Path) -> None:
    one, two = project_in(tmp_path).tokens, project_in(tmp_path).tokens
    assert one.derive("refresh token") == two.derive("refresh token")
    token = one.issue({"role": "authenticated"})  # neither has found a key file
    assert two.verify(token)["role"] == "authenticated"
    assert one.jwks() == two.jwks()


def test_a_folder_of_an_earlier_version_keeps_what_was_derived_from_its_key(
    tmp_path: Path,
) -> None:
    key = Key.generate()
    write_key_file(tmp_path / "keys.json", [key, Key.generate()])
    for _ in range(2):
        tokens = project_in(tmp_path).tokens
        assert tokens.derive("refresh token") == key.derive("refresh token")
        assert next(each["kid"] for each in tokens.jwks()["keys"]) == key.kid
        assert len(tokens.jwks()["keys"]) == 2


@pytest.mark.parametrize("content", ["", "short", "c2hvcnQ=", "ä"])
def test_a_root_file_that_holds_no_secret_is_one_readable_line(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "root.key").write_text(content)
    with pytest.raises(ConfigurationError, match=r"root.key does not hold a secret"):
        _ = project_in(tmp_path).tokens


def test_a_key_file_that_is_wrong_is_reported_when_a_key_of_it_is_used(tmp_path: Path) -> None:
    key_file = tmp_path / "keys.json"
    write_key_file(key_file, [Key.generate()])
    assert project_in(tmp_path).tokens.derive("refresh token")
    jwk = json.loads(key_file.read_text())["keys"][0]
    key_file.write_text(json.dumps({"keys": [{**jwk, "x": jwk["y"]}]}))
    with pytest.raises(ConfigurationError, match=r"keys.json holds a key that is no EC key"):
        project_in(tmp_path).tokens.issue({})
    key_file.write_text("hidden")
    with pytest.raises(ConfigurationError, match="is not a JSON Web Key Set"):
        _ = project_in(tmp_path).tokens


@pytest.mark.parametrize(
    "jwk",
    [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}, Key.generate().public_jwk(), "a key"],
    ids=["RSA", "public", "text"],
)
def test_a_key_file_with_other_keys_is_reported_at_the_start(tmp_path: Path, jwk: object) -> None:
    assert project_in(tmp_path).tokens.derive("refresh token")
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [jwk]}))
    with pytest.raises(ConfigurationError, match=r"keys.json must hold private keys of the curve"):
        _ = project_in(tmp_path).tokens


def test_with_a_secret_of_ones_own_they_are_signed_by_it(tmp_path: Path) -> None:
    token = project_in(tmp_path, signs_with_secret=True).tokens.issue({"role": "authenticated"})
    assert jwt.decode(token, SECRET, ["HS256"]) == {"role": "authenticated"}
    assert list(tmp_path.iterdir()) == []


def test_the_api_keys_are_taken(tmp_path: Path) -> None:
    assert project_in(tmp_path).tokens.verify(KEYS.service_role)["role"] == "service_role"


def test_tokens_of_others_are_taken_where_their_keys_are_given(tmp_path: Path) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    theirs = Key.generate()
    jwks = [RSAAlgorithm.to_jwk(private.public_key(), as_dict=True), theirs.public_jwk()]
    tokens = [
        jwt.encode({"role": "one"}, private, algorithm="RS256"),
        jwt.encode({"role": "two"}, theirs.signing, algorithm="ES256"),
    ]
    taking = project_in(tmp_path, jwks=json.dumps({"keys": jwks})).tokens
    assert [taking.verify(token)["role"] for token in tokens] == ["one", "two"]
    for token in tokens:
        with pytest.raises(TokenRejected):
            project_in(tmp_path).tokens.verify(token)


@pytest.mark.parametrize("text", ["{", "{}", '{"keys": [{"kty": "none"}]}', '{"keys": 7}'])
def test_what_is_no_key_set_is_reported(text: str) -> None:
    with pytest.raises(ConfigurationError, match="JWT_JWKS: is not a JSON Web Key Set"):
        read_jwks(text)


OF_THE_APPLICATION = {
    "BACKEND": "https://abcdefgh.supabase.co",
    "SECRET_KEY": "short",
    "DATABASE_URL": "mysql://ann:hidden@db/app",
    "POOL_SIZE": "many",
    "RLS": "perhaps",
    "ENVIRONMENT": "staging",
}


def set_for_the_application(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    if by == "file":
        lines = [f"{name}={value}" for name, value in OF_THE_APPLICATION.items()]
        Path(".env").write_text("\n".join(lines))
    else:
        for name, value in OF_THE_APPLICATION.items():
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize("by", ["file", "environment"])
async def test_the_settings_of_an_application_do_not_concern_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: ProjectDatabase, by: str
) -> None:
    set_for_the_application(monkeypatch, by)
    check()
    gateway = build(Project(project.roles, "http://gateway", tmp_path, KEYS))
    await gateway.start()
    transport = httpx.ASGITransport(gateway)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        headers = {"authorization": f"Bearer {KEYS.service_role}"}
        for path in ("/auth/v1/admin/users", "/storage/v1/bucket", "/rest/v1/"):
            assert (await client.get(path, headers=headers)).status_code == 200, path
    await gateway.close()


@pytest.mark.parametrize("prefix", ["/rest/v1", "/auth/v1", "/storage/v1", "/inbox"])
async def test_a_service_without_websockets_denies_them(tmp_path: Path, prefix: str) -> None:
    start, _ = await connect(build(project_in(tmp_path)), f"{prefix}/websocket")
    assert start["status"] == 404


@pytest.mark.parametrize(
    "line",
    ["GOTRUE_JWT_EXP=soon", "PGRST_DB_POOL=0", "FILE_SIZE_LIMIT=big", "GOTRUE_DB_MAX_POOL_SIZE=0"],
)
def test_a_wrong_value_of_its_own_is_one_line_that_names_it(line: str) -> None:
    Path(".env").write_text(line)
    with pytest.raises(ConfigurationError) as caught:
        check()
    assert caught.value.detail.startswith(line.partition("=")[0] + ": ")
    assert len(caught.value.detail.splitlines()) == 1
