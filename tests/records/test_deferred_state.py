"""Objects of rows, whose state SQLAlchemy makes when it is first needed."""

import copy
import pickle
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from fastapi.encoders import jsonable_encoder
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import get_history
from tests.models import Author, Note, Pet, Tag

from amphibase.backend import SERVICE
from amphibase.errors import InvalidValue, NotLoaded
from amphibase.models import utc_now
from amphibase.records.deferred_state import STATE_ATTRIBUTE
from amphibase.records.model_infos import ModelInfos

ID, OWNER = UUID(int=1), UUID(int=2)
VALUES = {
    "id": ID, "owner_id": OWNER, "created_at": utc_now(), "updated_at": utc_now(),
    "title": "one", "stars": 1, "name": "a", "chip": "b",
}  # fmt: skip


def loaded(model: type[Any], **values: Any) -> Any:
    """Return the object of a row."""
    info, values = ModelInfos("sqlite").of(model, SERVICE), VALUES | values
    (instance,) = info.objects([tuple(values[name] for name in info.loaded_names)])
    return instance


def has_state(instance: object) -> bool:
    return STATE_ATTRIBUTE in vars(instance)


@pytest.mark.parametrize("model", [Note, Author, Pet])
def test_reading_an_object_makes_no_state(model: type[Any]) -> None:
    instance = loaded(model)
    assert instance.id == ID
    assert not has_state(instance)
    assert inspect(instance).detached
    assert inspect(instance).identity == (ID,)


def test_a_change_is_known_to_sessions() -> None:
    note = loaded(Note)
    note.title = "two"
    assert get_history(note, "title") == (["two"], (), ["one"])


def test_a_session_writes_what_was_changed() -> None:
    tag = loaded(Tag, id=7)
    engine = create_engine("sqlite://")
    with Session(engine) as session:
        Tag.metadata.tables["t_tags"].create(session.connection())
        session.add(Tag(id=tag.id, name=tag.name))
        session.commit()
    tag.name = "b"
    with Session(engine) as session:
        session.add(tag)
        session.commit()
        assert [each.name for each in session.query(Tag)] == ["b"]
    engine.dispose()


def test_a_relationship_that_was_not_loaded_says_so() -> None:
    with pytest.raises(NotLoaded):
        _ = loaded(Author).books


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))],
    ids=["copy", "deepcopy", "pickle"],
)
@pytest.mark.parametrize("model", [Note, Author, Pet])
def test_a_copy_is_an_object_of_its_own(model: type[Any], copied: Callable[[Any], Any]) -> None:
    instance = loaded(model)
    other = copied(instance)
    other.id = UUID(int=3)
    assert (instance.id, other.id) == (ID, UUID(int=3))
    assert inspect(other).identity == (ID,)


def test_what_makes_the_state_is_not_shown() -> None:
    assert set(jsonable_encoder(loaded(Note))) == set(inspect(Note).columns.keys())


def test_a_new_object_has_a_state_of_its_own() -> None:
    loaded(Note)
    note = Note(title="new", stars=1)
    assert has_state(note)
    assert inspect(note).transient


def test_whoever_listens_hears_of_the_values_of_a_new_object() -> None:
    def reject(note: Note, value: Any, *others: Any) -> None:
        raise ValueError(f"not {value}")

    event.listen(Note.title, "set", reject)
    try:
        with pytest.raises(InvalidValue, match="title: not one"):
            Note(title="one")
    finally:
        event.remove(Note.title, "set", reject)
