"""The Supabase project that the settings name, checked before anything is sent to it."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from amphibase.errors import ConfigurationError
from amphibase.settings.application import Settings

PUBLISHABLE_PREFIX = "sb_publishable_"
SECRET_PREFIX = "sb_secret_"
"""Of the opaque keys (https://supabase.com/docs/guides/api/api-keys)."""

HOSTED_SUFFIX = ".supabase.co"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key of a project: opaque, or a JSON Web Token (`anon`, `service_role`).

    Attributes:
        name: the setting that it comes from.
    """

    name: str
    value: str = field(repr=False)

    @property
    def is_opaque(self) -> bool:
        """Return whether the project's gateway turns the key into a token."""
        return self.value.startswith((PUBLISHABLE_PREFIX, SECRET_PREFIX))

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request as the key's own role.

        An opaque key is not a token, so it is not sent as one.
        """
        if self.is_opaque:
            return {"apikey": self.value}
        return {"apikey": self.value, "Authorization": f"Bearer {self.value}"}

    def check(self, role: str, prefix: str, host: str) -> None:
        """Check that the key is of the role that its setting is for.

        The project alone can verify it. This finds keys that were exchanged, of which one would
        give everybody the rights of the service.

        Args:
            role: that a token has to name.
            prefix: that an opaque key has to have.
            host: of the project.

        Raises:
            ConfigurationError: it is neither a token nor an opaque key, or one for another role or
                project.
        """
        if self.is_opaque:
            if not self.value.startswith(prefix):
                raise ConfigurationError(f"{self.name}: needs a key that begins with {prefix}")
            return
        claims = _claims(self.value)
        if claims is None:
            raise ConfigurationError(
                f"{self.name}: is neither an opaque key ({prefix}…) nor a JSON Web Token"
            )
        if claims.get("role") != role:
            raise ConfigurationError(
                f"{self.name}: has the role {claims.get('role')!r}, and {role} is needed"
            )
        project = claims.get("ref")
        if project and host.endswith(HOSTED_SUFFIX) and host != f"{project}{HOSTED_SUFFIX}":
            raise ConfigurationError(
                f"{self.name}: is of the project {project}, and SUPABASE_URL of {host}"
            )


@dataclass(frozen=True, slots=True)
class SupabaseProject:
    """The address and the keys of a project.

    Attributes:
        url: without a slash at its end.
        anon_key: for anonymous callers, and beside the tokens of users.
        service_key: for the service, which no policy limits.
        jwt_secret: what the project signs tokens with, where that is a shared secret.
    """

    url: str
    anon_key: ApiKey
    service_key: ApiKey
    jwt_secret: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "SupabaseProject":
        """Read the project from the settings.

        Raises:
            ConfigurationError: one line for the first of `SUPABASE_URL`, `SUPABASE_ANON_KEY` and
                `SUPABASE_SERVICE_KEY` that is missing or wrong.
        """
        if settings.supabase_url is None:
            raise ConfigurationError(
                "SUPABASE_URL: the Supabase backend needs it, for example "
                "SUPABASE_URL=https://abcdefgh.supabase.co"
            )
        host = urlsplit(settings.supabase_url).hostname or ""
        anon_key = _api_key(settings, "supabase_anon_key")
        anon_key.check("anon", PUBLISHABLE_PREFIX, host)
        service_key = _api_key(settings, "supabase_service_key")
        service_key.check("service_role", SECRET_PREFIX, host)
        secret = settings.supabase_jwt_secret
        return cls(
            settings.supabase_url,
            anon_key,
            service_key,
            secret.get_secret_value() if secret else None,
        )


def _api_key(settings: Settings, name: str) -> ApiKey:
    secret = getattr(settings, name)
    if secret is None:
        raise ConfigurationError(
            f"{name.upper()}: the Supabase backend needs it; the project's dashboard has it under "
            "Settings, API keys"
        )
    return ApiKey(name.upper(), secret.get_secret_value().strip())


def _claims(token: str) -> dict[str, Any] | None:
    """Read the claims of a token without verifying it; None for what is no token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) else None
