"""Names that other libraries keep to themselves, each library's in a module of its own.

They may change with any release. So the versions are bounded (pyproject.toml), nothing else of the
package uses such a name, and `tests/test_private_names.py` says which of them is gone.
"""
