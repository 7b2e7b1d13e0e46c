"""The base of an application's models: Base with its type map, what models can be (owned,
soft-deleted, versioned), and the profile."""

import enum
import uuid
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Double,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    event,
    func,
    inspect,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, declared_attr, mapped_column
from sqlalchemy.types import JSON

from amphibase.access import Access, declaration_of, everyone, owner
from amphibase.access.scopes import ScopeRule
from amphibase.column_defaults import utc_now as utc_now
from amphibase.column_defaults import uuid7 as uuid7
from amphibase.column_types import ExactDecimal as ExactDecimal
from amphibase.column_types import Json as Json
from amphibase.column_types import UtcDateTime as UtcDateTime
from amphibase.errors import InvalidValue

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints have names, so that a migration can drop what another created."""


def _values(of: type[enum.Enum]) -> list[str]:
    """What the database keeps of an enum: its values where they are text, else its names."""
    values = [member.value for member in of]
    return (
        values
        if all(isinstance(value, str) for value in values)
        else [member.name for member in of]
    )


def _array(item: Any) -> Any:
    return JSON(none_as_null=True).with_variant(ARRAY(item), "postgresql")


@lru_cache(maxsize=1024)
def _stored_attributes(model: type[Any]) -> dict[str, Any]:
    """Return the events of the attributes of a model that are columns, by name.

    A new object holds them in its dictionary. SQLAlchemy's way of setting them takes several times
    as long, and does nothing else as long as no one listens (`validates()`, mutable types).
    """
    return {each.key: getattr(model, each.key).dispatch for each in inspect(model).column_attrs}


class Base(DeclarativeBase):
    """The base of an application's models: one definition for every backend."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration
        datetime: UtcDateTime(),
        uuid.UUID: Uuid(),
        Decimal: ExactDecimal(),
        enum.Enum: Enum(enum.Enum, values_callable=_values),
        dict[str, Any]: Json,
        list[Any]: Json,
        list[dict[str, Any]]: Json,
        list[str]: _array(Text()),
        list[int]: _array(BigInteger()),
        list[float]: _array(Double()),
        list[bool]: _array(Boolean()),
    }

    def __init__(self, **values: Any) -> None:
        """Set attributes by their names.

        Raises:
            TypeError: the class has no such attribute.
            InvalidValue: a validator rejects a value by a ValueError; names the attribute.
        """
        stored, held = _stored_attributes(type(self)), self.__dict__
        for name, value in values.items():
            events = stored.get(name)
            if events is not None and not events.set:
                held[name] = value
                continue
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no attribute {name!r}")
            try:
                setattr(self, name, value)
            except ValueError as error:
                raise InvalidValue(f"{name}: {error}", field=name) from error


class Timestamps:
    """Adds `created_at` and `updated_at`, in UTC; `updated_at` is set by every update."""

    created_at: Mapped[datetime] = mapped_column(default=utc_now, server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        default=utc_now, onupdate=utc_now, server_default=func.now()
    )


class Owned(Timestamps):
    """Adds `id`, `owner_id` and the timestamps; only its owner may see and change a row.

    `owner_id` is set to the caller when a row is added, and the rows go with the user's profile.
    """

    __access__: ClassVar[Access] = Access(read=owner, write=owner)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7, sort_order=-2)

    @declared_attr
    def owner_id(cls) -> Mapped[uuid.UUID]:  # noqa: N805 - SQLAlchemy hands it the class
        return mapped_column(ForeignKey("users.id", ondelete="CASCADE"), sort_order=-1)


class PublicRead(Owned):
    """`Owned`, but everyone may see the rows."""

    __access__ = Access(read=everyone, write=owner)


class ServerOnly:
    """For the service alone, as are models that declare nothing; this says so."""

    __access__ = Access()


def keeps_changes(model: type[Any]) -> bool:
    """Return whether a model's changes are logged, for streams of them: its `__changes__`."""
    return getattr(model, "__changes__", False) is True


class SoftDelete:
    """Adds `deleted_at`: a deleted row stays, and is left out unless a query includes it
    (`Repository.with_deleted`)."""

    deleted_at: Mapped[datetime | None] = mapped_column(default=None)


class Versioned:
    """Adds `version`, counted up by each update; a write that was based on an older one is
    `StaleVersion`."""

    version: Mapped[int] = mapped_column(default=1, server_default="1")

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 - SQLAlchemy hands it the class
        return {"version_id_col": cls.version}  # so that sessions count and check it too


_OF_LISTS = "amphibase lists"
"""What marks, in the `info` of an index, that it comes from the model's access."""


@event.listens_for(Mapper, "instrument_class")
@event.listens_for(Mapper, "mapper_configured")  # access may be declared after the class
def _index_lists(mapper: Mapper[Any], model: type[Any]) -> None:
    """Give a model's table the index that its lists, newest first, are read by."""
    table = mapper.local_table
    if not isinstance(table, Table) or not {"id", "created_at"} <= set(table.c.keys()):
        return
    if not issubclass(model, Owned) and not (
        issubclass(model, Timestamps) and mapper.inherits is None
    ):
        return
    read = declaration_of(model).read
    scopes = [rule for rule in read.walk() if isinstance(rule, ScopeRule)]
    scoped = [each.column for each in scopes if each.column != "id"]  # which has an index
    owned = ["owner_id"] if issubclass(model, Owned) else []
    ways: list[tuple[str, ...]] = [
        (name, "created_at", "id") for name in dict.fromkeys(owned + scoped) if name in table.c
    ]
    if not scopes and not (owned and read == owner):
        # Beside an index by scope it would be read in its place, past all rows of others.
        ways.append(("created_at", "id"))
    present = {tuple(column.name for column in each.columns): each for each in table.indexes}
    for way in ways:
        if way not in present:
            Index(None, *(table.c[name] for name in way), info={_OF_LISTS: True})
    for way, index in present.items():
        if _OF_LISTS in index.info and way not in ways:  # of what was declared before
            table.indexes.remove(index)


class User(Timestamps, Base):
    """The profile of an account: what the application knows of a person.

    It is created at sign-up and follows the account (address, ban). Subclass it to add
    columns, and say `Amphibase(user=MyUser)`.
    """

    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(255), unique=True, index=True)
    name: Mapped[str] = mapped_column(String(100), default="", server_default="")
    is_active: Mapped[bool] = mapped_column(default=True, server_default=true())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id}, email={self.email!r})"
