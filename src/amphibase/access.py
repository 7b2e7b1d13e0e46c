"""Who may do what with a model's rows: one declaration, enforced by every backend.

    class Note(Owned, Base): ...                              # its owner alone
    class Post(PublicRead, Base): ...                         # everyone reads, the owner writes
    class Rate(Base):
        __access__ = Access(read=authenticated, write=admin)  # in words
    class Secret(Base): ...                                   # undeclared: the service alone

Rules compose: `owner | admin` admits both. The service may do everything, always.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

OWNER_COLUMN = "owner_id"


class Who(StrEnum):
    """One kind of caller that a rule admits."""

    EVERYONE = "everyone"
    AUTHENTICATED = "authenticated"
    OWNER = "owner"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Rule:
    """Whom an operation is for, beside the service; `|` joins two rules."""

    admits: frozenset[Who]

    def __or__(self, other: "Rule") -> "Rule":
        return Rule(self.admits | other.admits)

    def __str__(self) -> str:
        return " | ".join(who for who in Who if who in self.admits) or "service"


everyone = Rule(frozenset({Who.EVERYONE}))
"""All callers, signed in or not."""
authenticated = Rule(frozenset({Who.AUTHENTICATED}))
"""Signed-in callers."""
owner = Rule(frozenset({Who.OWNER}))
"""The user whose id is the row's `owner_id`."""
admin = Rule(frozenset({Who.ADMIN}))
"""Users whose token says `app_metadata.role == "admin"`."""
service = Rule(frozenset())
"""The service only: jobs, scripts, the server's own code."""


@dataclass(frozen=True, slots=True)
class Access:
    """A model's declaration, as its `__access__`.

    Args:
        read: whose the rows are to see.
        write: who may add rows, and change and delete those that they may also see.
    """

    read: Rule = service
    write: Rule = service

    def __str__(self) -> str:
        return f"read: {self.read}; write: {self.write}"


SERVER_ONLY = Access()
"""What a model gets that declares nothing."""


def access_of(model: type[Any]) -> Access:
    """Return the declaration of a mapped class.

    Raises:
        TypeError: its `__access__` is no Access, or names an owner though the model has no
            `owner_id`.
    """
    access = getattr(model, "__access__", SERVER_ONLY)
    if not isinstance(access, Access):
        raise TypeError(f"{model.__name__}.__access__ must be an Access, as in Access(read=owner)")
    if Who.OWNER in access.read.admits | access.write.admits and not hasattr(model, OWNER_COLUMN):
        raise TypeError(f"{model.__name__} grants access to owners, but has no {OWNER_COLUMN}")
    return access
