"""Responses to sign-ups and sign-ins."""

from typing import Any

from fastapi import Response
from pydantic import BaseModel

from amphibase.http.schemas import AwaitingConfirmation, EmailVerified, SignedInResponse
from amphibase.models import User
from amphibase.records.derived import read_model
from amphibase.services.auth import AuthResult

NO_STORE = {"Cache-Control": "no-store"}


class SignInResponses:
    """The responses that have a profile, whose fields are those of its class.

    Attributes:
        profile: the model of the profile.
        signed_in: the model of tokens and profile.
        awaiting_confirmation: the model of a profile whose address is to be confirmed first.
        email_verified: the model of a profile whose address is confirmed.
    """

    def __init__(self, user: type[User]) -> None:
        profile: Any = read_model(user)
        self.profile = profile
        self.signed_in: Any = SignedInResponse[profile]
        self.awaiting_confirmation: Any = AwaitingConfirmation[profile]
        self.email_verified: Any = EmailVerified[profile]

    def of(self, result: AuthResult[Any], response: Response) -> BaseModel:
        """Return the body of a response, which nobody may store."""
        response.headers.update(NO_STORE)
        profile = self.profile.model_validate(result.user)
        if result.tokens is None:
            waiting: BaseModel = self.awaiting_confirmation(user=profile)
            return waiting
        tokens = result.tokens
        signed_in: BaseModel = self.signed_in(
            access_token=tokens.access_token,
            expires_in=tokens.expires_in,
            expires_at=tokens.expires_at,
            refresh_token=tokens.refresh_token,
            user=profile,
        )
        return signed_in
