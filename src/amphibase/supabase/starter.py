"""The SQL that a Supabase project needs before an application's data can be stored in it."""

from importlib.resources import files


def files_sql() -> str:
    """Return the bucket, the policies and the function that files need."""
    return files(__package__).joinpath("files.sql").read_text()
