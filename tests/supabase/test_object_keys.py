"""Paths with characters that Supabase Storage does not take."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from amphibase.supabase.object_keys import key_of, path_of

TAKEN = re.compile(r"[\w/!\-.*'() &$@=;:+,?]*", re.ASCII)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a/b c.txt", "a/b c.txt"),
        ("x=1&y=2.txt", "x=1&y=2.txt"),
        ("x=41.txt", "x=41.txt"),  # the code of a letter that needs none
        ("ä.txt", "=C3=A4.txt"),
        ("100%~.txt", "100=25=7E.txt"),
        ("=C3=A4.txt", "=3DC3=3DA4.txt"),
    ],
)
def test_a_path_has_one_name_that_storage_takes(path: str, key: str) -> None:
    assert key_of(path) == key
    assert path_of(key) == path


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("=3D")
@example("==3D")
@example("=3D3D")
def test_every_path_comes_back(path: str) -> None:
    key = key_of(path)
    assert TAKEN.fullmatch(key)
    assert path_of(key) == path


@given(st.text("=3DCAF49abcä/"))
def test_names_of_other_clients_are_found_by_their_paths(name: str) -> None:
    key = key_of(name)
    assert key_of(path_of(key)) == key
