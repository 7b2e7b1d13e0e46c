"""Settings of Supabase Auth that protect accounts and have no effect here."""

import os
import re
from collections.abc import Iterator, Mapping

from dotenv import dotenv_values

from amphibase.errors import ConfigurationError

OFF = ("", "0", "false", "f", "no", "off", "0s")
"""Values by which a setting asks for nothing."""

PROTECTIVE = re.compile(
    r"GOTRUE_(?:"
    r"HOOK_\w+_(?:ENABLED|URI)"
    r"|SESSIONS_(?:TIMEBOX|SINGLE_PER_USER|TAGS|ALLOW_LOW_AAL)"
    r"|SECURITY_(?:CAPTCHA_ENABLED|UPDATE_PASSWORD_REQUIRE_CURRENT_PASSWORD|SB_FORWARDED_FOR_ENABLED)"
    r"|PASSWORD_HIBP_(?:ENABLED|FAIL_CLOSED)"
    r"|SMS_TEST_OTP"
    r"|RATE_LIMIT_\w+"
    r"|JWT_KEYS"
    r")"
)
"""Names that Supabase Auth reads (its `internal/conf/configuration.go`) and this Auth does not."""


def reject_unsupported() -> None:
    """Stop the start where the environment or `.env` asks for a protection that is not here.

    Raises:
        ConfigurationError: one line for each variable.
    """
    environment = {**dotenv_values(".env"), **os.environ}
    names = list(unsupported(environment))
    if names:
        raise ConfigurationError(
            "\n".join(f"{name}: is not supported by the local Auth; leave it out" for name in names)
        )


def unsupported(environment: Mapping[str, str | None]) -> Iterator[str]:
    """Yield the variables that ask for a protection which Auth does not give."""
    for name, value in sorted(environment.items()):
        if PROTECTIVE.fullmatch(name) and (value or "").strip().lower() not in OFF:
            yield name
