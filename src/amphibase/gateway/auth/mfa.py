"""`/factors`: second factors by clock (TOTP, RFC 6238) and by text message: enrol, challenge,
verify, unenrol."""

import hmac
import io
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

from pydantic import Field
from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response

from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth import sms
from amphibase.gateway.auth.attempts import check_interval
from amphibase.gateway.auth.audit import AuditAction
from amphibase.gateway.auth.bearer import BearerUser, claims_of, found_first, signed_in
from amphibase.gateway.auth.bodies import Body, phone_of, read, uuid_of
from amphibase.gateway.auth.core import Core, address_of
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.mfa_rows import METHODS, NO_ADDRESS, name_taken
from amphibase.gateway.auth.notifications import Notification, notify
from amphibase.gateway.auth.responses import respond, respond_uncached
from amphibase.gateway.auth.serializers import user as user_json
from amphibase.gateway.auth.users import AuthUser

WINDOW = 1
"""How many codes before and after the current one are taken: clocks differ."""

QR_SCALE = 4
NO_ID = UUID(int=0)

PHONE_FACTOR = "phone factor"
"""What the code of a text message is for."""


class EnrollBody(Body, go_type="EnrollFactorParams"):
    factor_type: str = ""
    friendly_name: str = ""
    issuer: str = ""
    phone: str = ""


class ChallengeBody(Body, go_type="ChallengeFactorParams"):
    channel: str = ""


class VerifyFactorBody(Body, go_type="VerifyFactorParams"):
    challenge_id: UUID = Field(NO_ID, strict=False)
    code: str = ""


async def enroll(core: Core, request: Request) -> Response:
    """Respond to `POST /factors`: a new factor with its secret, which is never shown again."""
    claims_of(core, request)
    async with found_first(core, partial(_with_session, core, request=request)):
        body = await read(request, EnrollBody)
    async with core.database.write() as connection:
        caller = await _with_session(core, connection, request, lock=True)
        user = caller.user
        _check_type(core, body)
        phone = None
        if body.factor_type == "phone":
            phone = await _replace_unverified(core, connection, user, body.phone)
        await core.factors.remove_unverified(
            connection, user.id, older_than=core.settings.mfa_factor_expiry_duration
        )
        user = await core.users.get(connection, user.id)
        if any(factor.friendly_name == body.friendly_name for factor in user.factors):
            raise name_taken(body.friendly_name)
        verified = sum(each.status == "verified" for each in user.factors)
        if (
            len(user.factors) >= core.settings.mfa_max_enrolled_factors
            or verified >= core.settings.mfa_max_verified_factors
        ):
            raise AuthError(codes.MFA_TOO_MANY_FACTORS)
        caller.require_second_factor(403, "AAL2 required to enroll a new factor")
        secret = _new_secret() if phone is None else None
        id = await core.factors.add(
            connection, user.id, body.friendly_name, secret=secret, phone=phone
        )
        await core.audit.record(
            connection,
            user.row,
            AuditAction.FACTOR_IN_PROGRESS,
            traits={"factor_id": str(id), **({"factor_type": "phone"} if phone else {})},
            ip=address_of(request),
        )
    added = {"id": str(id), "type": body.factor_type, "friendly_name": body.friendly_name}
    if secret is None:
        return respond_uncached({**added, "phone": body.phone})
    uri = _uri(core, user, body.issuer, secret)
    totp = {"qr_code": _qr_code(uri), "secret": secret, "uri": uri}
    return respond_uncached({**added, "totp": totp})


async def _replace_unverified(
    core: Core, connection: SqlConnection, user: AuthUser, phone: str
) -> str:
    """Return the number of a new factor, whose unverified one is deleted. Raises AuthError."""
    if not phone:
        raise invalid("Phone number required to enroll Phone factor")
    phone = phone_of(phone)
    for factor in user.factors:
        if factor.factor_type == "phone" and factor.phone == phone:
            if factor.status == "verified":
                raise AuthError(codes.MFA_VERIFIED_FACTOR_EXISTS)
            await core.factors.remove(connection, factor)
    return phone


async def challenge(core: Core, request: Request) -> Response:
    """Respond to `POST /factors/{id}/challenge`: starts a challenge of the factor."""
    async with core.database.write() as connection:
        user = (await _signed_in(core, connection, request)).user
        id = uuid_of(request.path_params["id"], "factor_id")
        factor = await core.factors.get(connection, user.id, id, lock=True)
        _check_verifiable(core, factor)
        if factor.factor_type == "phone":
            body = await read(request, ChallengeBody)
            _check_message(core, factor, body.channel)
        challenge_row = await core.factors.challenge(connection, factor.id, address_of(request))
        await core.audit.record(
            connection,
            user.row,
            AuditAction.CHALLENGE_CREATED,
            traits={"factor_id": str(factor.id), "factor_status": factor.status},
            ip=address_of(request),
        )
        if factor.factor_type == "phone":
            await _send_code(core, connection, user, factor.phone, challenge_row.id)
    lifetime = timedelta(seconds=core.settings.mfa_challenge_expiry_duration)
    expires_at = int((challenge_row.created_at + lifetime).timestamp())
    return respond(
        {"id": str(challenge_row.id), "type": factor.factor_type, "expires_at": expires_at}
    )


def _check_message(core: Core, factor: Row[Any], channel: str) -> None:
    """Raise AuthError unless a text message may go to the factor's number now."""
    sms.check_channel(core, channel)
    interval = core.settings.mfa_phone_max_frequency
    check_interval(factor.last_challenged_at, interval, codes.SMS_RATE_LIMIT)


async def _send_code(
    core: Core, connection: SqlConnection, user: AuthUser, phone: str, challenge_id: UUID
) -> None:
    """Send the code of a challenge; a number with a code for tests gets no message."""
    if core.settings.test_code(phone) is not None:
        return
    if not core.hooks.sends_sms:
        raise AuthError(codes.NO_SMS_PROVIDER, "Failed to get SMS provider")
    await core.sms_quota.take()
    code = core.factor_codes.new_code()
    hashed = core.factor_codes.token(challenge_id, PHONE_FACTOR, code)
    await core.factors.set_code(connection, challenge_id, hashed)
    await core.hooks.send_sms(connection, user_json(user), phone, code, kind="mfa")


async def verify(core: Core, request: Request) -> Response:
    """Respond to `POST /factors/{id}/verify`: the code of the challenge makes the session `aal2`.

    The first code of a factor verifies it, and ends the user's sessions without a second factor.
    """
    claims_of(core, request)
    async with found_first(core, partial(_find, core, request=request)):
        body = await read(request, VerifyFactorBody)
    if core.hooks.checks_factors:
        await _check_attempt(core, request, body)
    async with core.database.write() as connection:
        caller = await _signed_in(core, connection, request, lock=True)
        user = caller.user
        id = uuid_of(request.path_params["id"], "factor_id")
        factor = await core.factors.get(connection, user.id, id, lock=True)
        if not body.code:
            raise invalid("Code needs to be non-empty")
        _check_verifiable(core, factor)
        challenge_row = await _challenge(core, connection, request, factor, body.challenge_id)
        with core.attempts.counting(str(factor.id)):
            if not _is_right(core, factor, challenge_row, body.code):
                raise AuthError(
                    codes.MFA_PHONE_VERIFICATION_FAILED
                    if factor.factor_type == "phone"
                    else codes.MFA_VERIFICATION_FAILED
                )
        await core.factors.use_challenge(connection, challenge_row.id)
        await core.audit.record(
            connection,
            user.row,
            AuditAction.VERIFICATION_ATTEMPTED,
            traits={
                "factor_id": str(factor.id),
                "challenge_id": str(challenge_row.id),
                "factor_type": factor.factor_type,
            },
            ip=address_of(request),
        )
        is_first = factor.status != "verified"
        if is_first:
            await core.factors.change(connection, factor.id, status="verified")
        session = None
        if caller.session_id is not None:
            session = await core.sessions.raise_to_aal2(
                connection, caller.session_id, factor.id, METHODS[factor.factor_type]
            )
        if session is None:
            raise AuthError(codes.SESSION_NOT_FOUND, "The token belongs to no live session")
        await core.factors.end_weaker_sessions(connection, user.id, session.session_id)
        await core.factors.remove_unverified(connection, user.id, factor.factor_type)
        user = await core.users.get(connection, user.id)
        session = await core.engine.with_claims(connection, user.row, session)
    if is_first:
        added = Notification.MFA_FACTOR_ENROLLED
        await notify(core, request, added, user, FactorType=factor.factor_type)
    return respond_uncached(core.session_json(user, session))


async def _check_attempt(core: Core, request: Request, body: VerifyFactorBody) -> None:
    async with core.database.read() as connection:
        user, factor = await _find(core, connection, request)
        _check_verifiable(core, factor)
        challenge_row = await _challenge(core, connection, request, factor, body.challenge_id)
    valid = _is_right(core, factor, challenge_row, body.code)
    # In a transaction of its own: what the hook writes stays after a rejection.
    with core.attempts.counting(str(factor.id)):
        async with core.database.write() as connection:
            message = await core.hooks.after_mfa_attempt(connection, factor, valid=valid)
            if message is not None:
                await core.sessions.end(connection, user.id)
        if message is not None:
            raise AuthError(codes.MFA_VERIFICATION_REJECTED, message)


async def unenroll(core: Core, request: Request) -> Response:
    """Respond to `DELETE /factors/{id}`: a verified factor takes a session that has shown one."""
    async with core.database.write() as connection:
        caller = await _signed_in(core, connection, request, lock=True)
        id = uuid_of(request.path_params["id"], "factor_id")
        factor = await core.factors.get(connection, caller.user.id, id)
        if caller.session is None:
            raise AuthError(
                codes.MFA_NO_SESSION, "A valid session and factor are required to unenroll a factor"
            )
        if factor.status == "verified" and caller.aal != "aal2":
            raise AuthError(
                codes.INSUFFICIENT_AAL, "AAL2 required to unenroll verified factor", status=422
            )
        await core.factors.remove(connection, factor)
        await core.audit.record(
            connection,
            caller.user.row,
            AuditAction.FACTOR_UNENROLLED,
            traits={
                "factor_id": str(factor.id),
                "factor_status": factor.status,
                "session_id": str(caller.session_id),
            },
            ip=address_of(request),
        )
    removed = Notification.MFA_FACTOR_UNENROLLED
    await notify(core, request, removed, caller.user, FactorType=factor.factor_type)
    return respond({"id": str(factor.id)})


async def _signed_in(
    core: Core, connection: SqlConnection, request: Request, *, lock: bool = False
) -> BearerUser:
    # A factor of an anonymous user would stay with the account that they become.
    caller = await signed_in(core, connection, request, lock=lock)
    if caller.user.row.is_anonymous:
        raise AuthError(codes.ANONYMOUS_NOT_ALLOWED)
    return caller


async def _with_session(
    core: Core, connection: SqlConnection, request: Request, *, lock: bool = False
) -> BearerUser:
    caller = await _signed_in(core, connection, request, lock=lock)
    if caller.session is None:
        raise AuthError(codes.MFA_NO_SESSION)
    return caller


async def _find(
    core: Core, connection: SqlConnection, request: Request
) -> tuple[AuthUser, Row[Any]]:
    """Return the user who sends the request, and the factor of theirs that it is about."""
    user = (await _signed_in(core, connection, request)).user
    id = uuid_of(request.path_params["id"], "factor_id")
    return user, await core.factors.get(connection, user.id, id)


def _check_type(core: Core, body: EnrollBody) -> None:
    match body.factor_type:
        case "totp":
            if not core.settings.mfa_totp_enroll_enabled:
                raise AuthError(codes.MFA_TOTP_ENROLL_DISABLED)
        case "phone":
            if not core.settings.mfa_phone_enroll_enabled:
                raise AuthError(codes.MFA_PHONE_ENROLL_DISABLED)
        case "webauthn":
            raise AuthError(codes.MFA_WEBAUTHN_ENROLL_DISABLED)
        case _:
            raise invalid("factor_type needs to be totp, phone, or webauthn")


def _check_verifiable(core: Core, factor: Row[Any]) -> None:
    match factor.factor_type:
        case "totp":
            if not core.settings.mfa_totp_verify_enabled:
                raise AuthError(codes.MFA_TOTP_VERIFY_DISABLED)
        case "phone":
            if not core.settings.mfa_phone_verify_enabled:
                raise AuthError(codes.MFA_PHONE_VERIFY_DISABLED)
        case _:
            raise AuthError(codes.MFA_WEBAUTHN_VERIFY_DISABLED)


async def _challenge(
    core: Core, connection: SqlConnection, request: Request, factor: Row[Any], id: UUID
) -> Row[Any]:
    challenge_row = await core.factors.find_challenge(connection, factor.id, id)
    if challenge_row is None:
        raise AuthError(codes.MFA_CHALLENGE_NOT_FOUND)
    is_same_client = str(challenge_row.ip_address) == (address_of(request) or NO_ADDRESS)
    if challenge_row.verified_at is not None or not is_same_client:
        raise AuthError(codes.MFA_IP_ADDRESS_MISMATCH)
    lifetime = timedelta(seconds=core.settings.mfa_challenge_expiry_duration)
    if challenge_row.created_at + lifetime < utc_now():
        raise AuthError(
            codes.MFA_CHALLENGE_EXPIRED,
            f"MFA challenge {challenge_row.id} has expired, verify against another challenge or "
            "create a new challenge.",
        )
    return challenge_row


def _is_right(core: Core, factor: Row[Any], challenge_row: Row[Any], code: str) -> bool:
    if factor.factor_type == "totp":
        return _is_current(factor.secret, code)
    test_code = core.settings.test_code(factor.phone)
    if test_code is not None:
        return hmac.compare_digest(test_code.encode(), code.encode("utf-8", "surrogatepass"))
    sent = challenge_row.otp_code or ""
    hashed = core.factor_codes.token(challenge_row.id, PHONE_FACTOR, code)
    return hmac.compare_digest(sent.encode(), hashed.encode())


def _new_secret() -> str:
    import pyotp

    return pyotp.random_base32()


def _is_current(secret: str, code: str) -> bool:
    import pyotp

    try:
        return pyotp.TOTP(secret).verify(code, valid_window=WINDOW)
    except ValueError:  # a secret from elsewhere that is encrypted, or none
        return False


def _qr_code(content: str) -> str:
    import segno

    picture = io.BytesIO()
    segno.make(content).save(
        picture, kind="svg", xmldecl=False, nl=False, scale=QR_SCALE, light="white"
    )
    # Clients make a URL of it as it is, where a `#` would begin the fragment.
    return picture.getvalue().decode().replace("#000", "black").replace("#fff", "white")


def _uri(core: Core, user: AuthUser, issuer: str, secret: str) -> str:
    # Supabase Auth's, with Go's escapes: the name is readable, and the issuer has its port.
    issuer = issuer or urlsplit(core.settings.site_url).netloc.rpartition("@")[2]
    name = user.row.email or user.row.phone or str(user.id)
    label = quote(f"{issuer}:{name}", safe="$&+,/:;=@")
    parameters = f"algorithm=SHA1&digits=6&issuer={quote(issuer, safe='$&+=:@')}&period=30"
    return f"otpauth://totp/{label}?{parameters}&secret={secret}"
