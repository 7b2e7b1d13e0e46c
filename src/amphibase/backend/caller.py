"""The caller: on whose behalf something is done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from uuid import UUID

Claims = Mapping[str, Any]
Role = Literal["anon", "authenticated", "service_role"]

NO_CLAIMS: Claims = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf something is done. It is passed explicitly, everywhere.

    Args:
        role: the database role the caller acts as; Supabase's names.
        user_id: the signed-in user, None for anonymous callers and the service.
        session_id: the session that the token belongs to; None for a token without one.
        claims: the verified claims of the access token.
        token: the access token itself, for backends that pass it on.
    """

    role: Role
    user_id: UUID | None = None
    session_id: UUID | None = None
    claims: Claims = field(default_factory=lambda: NO_CLAIMS)
    token: str | None = field(default=None, repr=False)

    @property
    def is_admin(self) -> bool:
        """Return whether the caller is the service, or has `app_metadata.role == "admin"`."""
        if self.role == "service_role":
            return True
        metadata = self.claims.get("app_metadata")
        return isinstance(metadata, Mapping) and metadata.get("role") == "admin"


ANONYMOUS = Caller("anon")
SERVICE = Caller("service_role")
