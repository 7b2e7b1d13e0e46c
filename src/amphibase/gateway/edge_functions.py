"""The edge functions of a project, which the local Supabase does not run."""

from pathlib import Path


def edge_functions(folder: Path) -> list[str]:
    """Return the names of a project's edge functions.

    Args:
        folder: `supabase`, which need not exist. What begins with an underscore in its `functions`
            is shared by functions, and is none (https://supabase.com/docs/guides/functions).
    """
    names = {path.parent.name for path in folder.glob("functions/*/index.*")}
    return sorted(name for name in names if not name.startswith("_"))
