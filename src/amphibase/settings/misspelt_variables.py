"""Finds variables that were meant as settings: a misspelt one has no effect, and is not seen."""

import os
from difflib import get_close_matches

from amphibase.settings.application import PREFIX, Settings
from amphibase.settings.loading import variables

LIKENESS = 0.9
"""How like a setting's name another has to be: a letter that is missing, added or swapped."""


def misspelt_variables(kind: type[Settings]) -> list[str]:
    """Return the variables of the environment and `.env` that begin with the prefix of settings,
    or have almost the name of one, and are none, sorted; each with the setting that may be meant.

    Args:
        kind: `Settings`, or an application's own class of them.
    """
    from dotenv import dotenv_values

    known = {name for field in kind.model_fields for name in variables(kind, field)}
    read = {name.upper() for name in (*dotenv_values(".env"), *os.environ)}
    found = []
    for name in sorted(read - known):
        meant = get_close_matches(name, known - read, 1, LIKENESS)
        if meant or name.startswith(PREFIX):
            found.append(f"{name} ({meant[0]}?)" if meant else name)
    return found
