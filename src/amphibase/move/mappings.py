"""Integer ids that become UUIDs: the same UUID for the same id, at each run and on each side."""

from uuid import UUID, uuid5


def mapped_id(namespace: UUID, old: str) -> str:
    """Return the UUID that an old id becomes (RFC 9562, version 5).

    Args:
        old: as Postgres writes it.
    """
    return str(uuid5(namespace, old))
