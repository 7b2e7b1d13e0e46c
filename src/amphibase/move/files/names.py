"""The names of files on both sides of a move."""

from amphibase.move.files.base import FileSide
from amphibase.supabase.object_keys import key_of, path_of


def name_on(side: FileSide, name: str, origin: FileSide) -> str:
    """Return the name of a file on a side: a project's Storage takes few characters in it, and
    writes the others as the Supabase backend does (`supabase/object_keys.py`)."""
    if side.names_are_paths == origin.names_are_paths:
        return name
    if origin.names_are_paths:
        return key_of(name)
    path = path_of(name)
    return path if key_of(path) == name else name
