"""The plan of a move: a TOML file that people read, edit and keep; no secret is ever in it."""

import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from amphibase.errors import ConfigurationError

UNKNOWN = "no plan has a name like this; it may be misspelt"


class PlanPart(BaseModel):
    """A part of the plan; a name that it does not know is an error, as it may be misspelt."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EndPlan(PlanPart):
    """One end of the move.

    Args:
        address: `sql:URL` or `supabase:URL`, without a password.
        files: where the bytes of files are, on SQL, as `FILES_URL` without options.
        database: of a Supabase project, where it is reached as one; without a password.
    """

    address: str
    files: str | None = None
    database: str | None = None


class TablePlan(PlanPart):
    """A table that moves.

    Args:
        source: `schema.name`, or the name alone on SQLite.
        target: the same of the other side.
        key: by which rows are told apart, in the source's names.
        columns: source's name → target's name; generated columns and those left out do not move.
        ids: of columns that refer to a mapped table, its name in `mappings`.
        merge: whether the target may hold rows already; those with a key of the source are kept.
        triggers: of the target's triggers, whether they fire for rows that arrive.
    """

    source: str
    target: str
    key: tuple[str, ...]
    columns: dict[str, str]
    ids: dict[str, str] = Field(default_factory=dict)
    merge: bool = False
    triggers: dict[str, Literal["off", "fire"]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        _check_unique(f"{self.source}: columns of the target", self.columns.values())
        for column in self.ids:
            if column not in self.columns:
                raise ValueError(f"{self.source}: ids name {column}, which is not in columns")
        return self


class UserColumns(PlanPart):
    """Which columns of the source's own table of users are an account's.

    Args:
        is_confirmed: whether the address is confirmed, where no column says when.
        is_admin: of those who become administrators; never unless somebody writes it here.
    """

    id: str
    email: str
    password_hash: str | None = None
    is_active: str | None = None
    created_at: str | None = None
    confirmed_at: str | None = None
    is_confirmed: str | None = None
    is_admin: str | None = None


class AccountsPlan(PlanPart):
    """The accounts that move.

    Args:
        table: a table of users that knows nothing of Amphibase; None where the source has accounts.
        columns: of that table.
        sessions: whether people stay signed in, where both sides allow it.
        same_address: what happens to accounts whose addresses differ by case alone; `ask` stops.
    """

    table: str | None = None
    columns: UserColumns | None = None
    identities: bool = True
    factors: bool = True
    sessions: bool = True
    same_address: Literal["ask", "first", "last"] = "ask"
    merge: bool = False


class FilesPlan(PlanPart):
    """The buckets whose files move."""

    buckets: tuple[str, ...] = ()
    merge: bool = False


class MappingPlan(PlanPart):
    """Integer ids that become UUIDs, the same at each run.

    Args:
        source: the table whose ids they are.
        column: of its key.
        namespace: from which the UUIDs are made (RFC 9562, version 5).
        table: of the target, which holds `old_id` and `new_id` afterwards.
    """

    source: str
    column: str
    namespace: str
    table: str

    @field_validator("namespace")
    @classmethod
    def _check_namespace(cls, namespace: str) -> str:
        try:
            UUID(namespace)
        except ValueError:
            raise ValueError(f"{namespace!r} is no UUID") from None
        return namespace


class NotMoved(PlanPart):
    """Something that stays, and why."""

    what: str
    reason: str


class VerifyPlan(PlanPart):
    """How far the proof goes.

    Args:
        probe_account: whether an account is made on the target, signed in and removed again.
    """

    probe_account: bool = False


class Plan(PlanPart):
    """What moves from where to where.

    Args:
        sequences: those that no column counts by, and both sides have; they go on where the
            source's are.
    """

    version: Literal[1] = 1
    name: str
    source: EndPlan
    target: EndPlan
    accounts: AccountsPlan | None = None
    files: FilesPlan | None = None
    tables: tuple[TablePlan, ...] = ()
    mappings: dict[str, MappingPlan] = Field(default_factory=dict)
    sequences: tuple[str, ...] = ()
    not_moved: tuple[NotMoved, ...] = ()
    verify: VerifyPlan = VerifyPlan()

    @model_validator(mode="after")
    def _check_tables(self) -> Self:
        _check_unique("sequences", self.sequences)
        _check_unique("sources of tables", [table.source for table in self.tables])
        targets = [table.target for table in self.tables]
        _check_unique("targets of tables", [*targets, *(m.table for m in self.mappings.values())])
        for table in self.tables:
            for column, mapping in table.ids.items():
                if mapping not in self.mappings:
                    raise ValueError(
                        f"{table.source}: ids map {column} by {mapping}, which is not in mappings"
                    )
        return self


def _check_unique(subject: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{subject}: {name} is named {count} times")


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        ConfigurationError: the file is missing, is not TOML, or has a value that no plan has; says
            which.
    """
    try:
        return Plan.model_validate(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: there is no such plan; `amphibase move plan` writes one"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not a text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        is_unknown = first["type"] == "extra_forbidden"
        message = UNKNOWN if is_unknown else first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(": ".join(filter(None, [str(path), where, message]))) from None
