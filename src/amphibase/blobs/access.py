"""Who may see and change a file: in SQL the rule itself, in a Supabase project beside its policies,
which hide what a caller may not see but do not say why."""

from typing import Protocol, TypeVar

from amphibase.backend import Caller
from amphibase.errors import Forbidden, NotFound, Unauthenticated

MISSING = "There is no such file"


class FileAccess(Protocol):
    """What decides about a file.

    Attributes:
        owner_id: as text; None where the service alone may change it.
        public: whether its bucket is.
    """

    @property
    def owner_id(self) -> str | None: ...

    @property
    def public(self) -> bool: ...


AnyFile = TypeVar("AnyFile", bound=FileAccess)


def may_read(caller: Caller, file: FileAccess) -> bool:
    """Return whether the file exists for the caller."""
    return file.public or may_change(caller, file)


def may_change(caller: Caller, file: FileAccess) -> bool:
    """Return whether the caller is the owner or the service."""
    if caller.role == "service_role":
        return True
    return caller.user_id is not None and file.owner_id == str(caller.user_id)


def require_known(caller: Caller) -> None:
    """Reject anonymous callers. Raises Unauthenticated."""
    if caller.role != "service_role" and caller.user_id is None:
        raise Unauthenticated


def require_change(caller: Caller, file: AnyFile | None) -> AnyFile:
    """Return a file that the caller may change.

    Raises:
        NotFound: it does not exist for the caller.
        Unauthenticated, Forbidden: the caller may read it only.
    """
    if file is None or not may_read(caller, file):
        raise NotFound(MISSING)
    if not may_change(caller, file):
        require_known(caller)
        raise Forbidden("Only its owner may change this file")
    return file
