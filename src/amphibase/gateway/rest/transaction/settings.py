"""The settings of a request's transaction, and the function that is called before its statement."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import orjson

from amphibase.backend import Isolation
from amphibase.database.statement import Call, Statement
from amphibase.gateway.rest.request.request import ApiRequest
from amphibase.gateway.rest.schema.catalog import Catalog, Name
from amphibase.gateway.rest.sql.fragments import listed, qualified

_ISOLATION = "default_transaction_isolation"


class TransactionSettings:
    """The transactions of requests about one state of the database.

    Args:
        extra_search_path: schemas after the request's own (PGRST_DB_EXTRA_SEARCH_PATH).
        pre_request: the name of a function to call first (PGRST_DB_PRE_REQUEST), or None.
        app_settings: of every transaction, by name (PGRST_APP_SETTINGS_…).

    Attributes:
        before: what is called before each request's own statement.
    """

    def __init__(
        self,
        catalog: Catalog,
        extra_search_path: Sequence[str],
        pre_request: str | None,
        app_settings: Mapping[str, str] | None = None,
    ) -> None:
        self._role_settings = catalog.role_settings
        self._app_settings = app_settings or {}
        self._paths = {
            schema: listed(dict.fromkeys((schema, *extra_search_path)))
            for schema in catalog.schemas
        }
        self.before = (Call(Statement(f"SELECT {call_of(pre_request)}")),) if pre_request else ()

    def settings(
        self, request: ApiRequest, role: str, timezone: str | None = None
    ) -> "LocalSettings":
        """Return the settings of the transaction: the role's own, and the request's (`request.*`).

        Args:
            timezone: the one that the request prefers.
        """
        headers = request.headers
        cookies = headers.get("cookie")
        if cookies is not None:
            headers = {name: value for name, value in headers.items() if name != "cookie"}
        values = {
            **self._role_settings.get(role, {}),
            **self._app_settings,
            "search_path": self._paths[request.schema],
            "request.method": request.method,
            "request.path": request.path,
            "request.headers": orjson.dumps(headers).decode(),
            "request.cookies": _cookies(cookies) if cookies else "{}",
        }
        if timezone is not None:
            values["timezone"] = timezone
        return local_settings(values)


class LocalSettings(NamedTuple):
    """The settings of one transaction.

    Attributes:
        values: by name.
        isolation: the level with which it has to begin; None for the database's own.
    """

    values: Mapping[str, str]
    isolation: Isolation | None = None

    def overridden(self, settings: Mapping[str, str]) -> "LocalSettings":
        """Return these with others, which win."""
        if not settings:
            return self
        before = {} if self.isolation is None else {_ISOLATION: self.isolation}
        return local_settings({**before, **self.values, **settings})


def local_settings(values: dict[str, str]) -> LocalSettings:
    """Take the isolation level out of the settings that a role or a function has."""
    isolation = cast("Isolation | None", values.pop(_ISOLATION, None))
    return LocalSettings(values, isolation)


def call_of(function: str) -> str:
    """Write the call of a function without arguments that a setting names, as SQL."""
    schema, _, name = function.rpartition(".")
    return f"{qualified(Name(schema or 'public', name))}()"


def _cookies(header: str) -> str:
    """Return the cookies as JSON, in the lenient grammar of browsers."""
    cookies = {}
    for part in header.split(";"):
        name, _, value = part.partition("=")
        if name := name.strip():
            cookies[name] = value.strip().removeprefix('"').removesuffix('"')
    return orjson.dumps(cookies).decode()
