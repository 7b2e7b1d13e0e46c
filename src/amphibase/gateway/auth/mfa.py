"""`/factors`: second factors by clock (TOTP, RFC 6238): enrol, challenge, verify, unenrol."""

import io
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pyotp
import segno
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.auth.bearer import signed_in
from amphibase.gateway.auth.bodies import Body, read, uuid_of
from amphibase.gateway.auth.core import Core, address_of
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.mfa_rows import NO_ADDRESS
from amphibase.gateway.auth.settings_endpoint import answer, session
from amphibase.gateway.auth.users import Person
from amphibase.models import utc_now

WINDOW = 1
"""How many codes before and after the current one are taken: clocks differ."""

QR_SCALE = 4


class Enrol(Body):
    factor_type: str = ""
    friendly_name: str = ""
    issuer: str = ""


class Verify(Body):
    challenge_id: str = ""
    code: str = ""


async def enrol(core: Core, request: Request) -> Response:
    """`POST /factors`: a new factor with its secret, which nobody is shown again."""
    body = await read(request, Enrol)
    async with core.database.write() as connection:
        caller = await signed_in(core, connection, request, lock=True)
        person = caller.person
        _check_type(core, body)
        caller.demand_second_factor(403, "AAL2 required to enroll a new factor")
        await core.factors.remove_unverified(
            connection, person.id, core.settings.mfa_factor_expiry_duration
        )
        person = await core.users.get(connection, person.id)
        verified = sum(each.status == "verified" for each in person.factors)
        if (
            len(person.factors) >= core.settings.mfa_max_enrolled_factors
            or verified >= core.settings.mfa_max_verified_factors
        ):
            raise AuthError(
                422,
                "too_many_enrolled_mfa_factors",
                "Maximum number of verified factors reached, unenroll to continue",
            )
        secret = pyotp.random_base32()
        id = await core.factors.add_totp(connection, person.id, body.friendly_name, secret)
    uri = _uri(core, person, body.issuer, secret)
    return session(
        {
            "id": str(id),
            "type": "totp",
            "friendly_name": body.friendly_name,
            "totp": {
                "qr_code": _qr_code(uri),
                "secret": secret,
                "uri": uri,
            },
        }
    )


async def challenge(core: Core, request: Request) -> Response:
    """`POST /factors/{id}/challenge`: asks for a code of the factor."""
    async with core.database.write() as connection:
        person = (await signed_in(core, connection, request)).person
        id = uuid_of(request.path_params["id"], "factor_id")
        factor = await core.factors.get(connection, person.id, id)
        _demand_verifiable(core, factor)
        asked = await core.factors.challenge(connection, factor.id, address_of(request))
    lifetime = timedelta(seconds=core.settings.mfa_challenge_expiry_duration)
    expires_at = int((asked.created_at + lifetime).timestamp())
    return answer({"id": str(asked.id), "type": "totp", "expires_at": expires_at})


async def verify(core: Core, request: Request) -> Response:
    """`POST /factors/{id}/verify`: the code that was asked for makes the session `aal2`.

    The first code of a factor verifies it, and ends the user's sessions without a second factor.
    """
    body = await read(request, Verify)
    async with core.database.write() as connection:
        caller = await signed_in(core, connection, request, lock=True)
        person = caller.person
        id = uuid_of(request.path_params["id"], "factor_id")
        factor = await core.factors.get(connection, person.id, id, lock=True)
        _demand_verifiable(core, factor)
        asked = await _asked(core, connection, request, factor, body.challenge_id)
        with core.guesses.counting(str(factor.id)):
            if not _is_current(factor.secret, body.code):
                raise AuthError(422, "mfa_verification_failed", "Invalid TOTP code entered")
        await core.factors.remove_challenge(connection, asked.id)
        if factor.status != "verified":
            await core.factors.change(connection, factor.id, status="verified")
        opened = None
        if caller.session_id is not None:
            opened = await core.sessions.strengthen(
                connection, caller.session_id, factor.id, "totp"
            )
        if opened is None:
            raise AuthError(403, "session_not_found", "The token belongs to no living session")
        await core.factors.end_weaker_sessions(connection, person.id, opened.session_id)
        await core.factors.remove_unverified(connection, person.id)
        person = await core.users.get(connection, person.id)
        return session(core.session_answer(person, opened))


async def unenrol(core: Core, request: Request) -> Response:
    """`DELETE /factors/{id}`: a verified factor takes a session that has shown one."""
    async with core.database.write() as connection:
        caller = await signed_in(core, connection, request, lock=True)
        id = uuid_of(request.path_params["id"], "factor_id")
        factor = await core.factors.get(connection, caller.person.id, id)
        if factor.status == "verified" and caller.aal != "aal2":
            raise AuthError(422, "insufficient_aal", "AAL2 required to unenroll verified factor")
        await core.factors.remove(connection, factor)
    return answer({"id": str(factor.id)})


def _check_type(core: Core, body: Enrol) -> None:
    match body.factor_type:
        case "totp":
            if not core.settings.mfa_totp_enroll_enabled:
                raise AuthError(
                    422, "mfa_totp_enroll_not_enabled", "MFA enroll is disabled for TOTP"
                )
        case "phone":
            raise AuthError(422, "mfa_phone_enroll_not_enabled", "MFA enroll is disabled for Phone")
        case "webauthn":
            raise AuthError(
                422, "mfa_webauthn_enroll_not_enabled", "MFA enroll is disabled for WebAuthn"
            )
        case _:
            raise invalid("factor_type needs to be totp, phone, or webauthn")


def _demand_verifiable(core: Core, factor: Row[Any]) -> None:
    if factor.factor_type != "totp":
        raise AuthError(
            422,
            f"mfa_{factor.factor_type}_verify_not_enabled",
            f"MFA verification is disabled for {factor.factor_type}",
        )
    if not core.settings.mfa_totp_verify_enabled:
        raise AuthError(422, "mfa_totp_verify_not_enabled", "MFA verification is disabled for TOTP")


async def _asked(
    core: Core, connection: AsyncConnection, request: Request, factor: Row[Any], id: str
) -> Row[Any]:
    asked = await core.factors.find_challenge(connection, factor.id, uuid_of(id, "challenge_id"))
    if asked is None:
        raise AuthError(
            404, "mfa_factor_not_found", "MFA factor with the provided challenge ID not found"
        )
    if str(asked.ip_address) != (address_of(request) or NO_ADDRESS):
        raise AuthError(
            422, "mfa_ip_address_mismatch", "Challenge and verify IP addresses mismatch."
        )
    lifetime = timedelta(seconds=core.settings.mfa_challenge_expiry_duration)
    if asked.created_at + lifetime < utc_now():
        raise AuthError(
            422,
            "mfa_challenge_expired",
            f"MFA challenge {asked.id} has expired, verify against another challenge or create "
            "a new challenge.",
        )
    return asked


def _is_current(secret: str, code: str) -> bool:
    try:
        return pyotp.TOTP(secret).verify(code, valid_window=WINDOW)
    except ValueError:  # a secret from elsewhere that is encrypted, or none
        return False


def _qr_code(content: str) -> str:
    picture = io.BytesIO()
    segno.make(content).save(
        picture, kind="svg", xmldecl=False, nl=False, scale=QR_SCALE, light="white"
    )
    # Clients make a URL of it as it is, where a `#` would begin the fragment.
    return picture.getvalue().decode().replace("#000", "black").replace("#fff", "white")


def _uri(core: Core, person: Person, issuer: str, secret: str) -> str:
    issuer = issuer or urlsplit(core.settings.site_url).hostname or "localhost"
    name = person.row.email or person.row.phone or str(person.id)
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=issuer)
