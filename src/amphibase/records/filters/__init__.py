"""Filters as PostgREST writes them: one table of operators, one syntax tree, and its two forms, a
query string and a SQLAlchemy expression."""
