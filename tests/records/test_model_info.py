"""What the SQL backend does not accept for the model of a table."""

from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, reconstructor

from amphibase import NotSupported
from amphibase.records.model_info import ModelInfo


class Apart(DeclarativeBase):
    """Beside the application's models."""


class Person(Apart):
    __tablename__ = "people"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]


class Chief(Person):
    __mapper_args__ = {"polymorphic_identity": "chief"}  # noqa: RUF012


@pytest.mark.parametrize("model", [Person, Chief])
def test_classes_that_share_a_table_by_a_column_are_rejected(model: type[Apart]) -> None:
    """Each would be given the rows of the others."""
    with pytest.raises(NotSupported, match=f"^{model.__name__} shares its table"):
        ModelInfo(model)


class Audited(Apart):
    __tablename__ = "audited"

    id: Mapped[int] = mapped_column(primary_key=True)


@event.listens_for(Audited, "after_insert")
@event.listens_for(Audited, "before_delete")
def audit(*_: Any) -> None:
    """Write down what happens."""


def test_a_class_with_listeners_that_repositories_do_not_run_is_rejected() -> None:
    """An audit log that nobody fills is worse than none."""
    with pytest.raises(NotSupported, match="Audited has listeners for before_delete, after_insert"):
        ModelInfo(Audited)


class Counted(Apart):
    __tablename__ = "counted"

    id: Mapped[int] = mapped_column(primary_key=True)

    @reconstructor
    def count(self) -> None:
        self.counted = self.id + 1


def test_a_reconstructor_runs_for_every_row_that_is_read() -> None:
    assert ModelInfo(Counted).object((1,)).counted == 2
