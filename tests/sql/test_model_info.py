"""What the SQL backend refuses to take for the model of a table."""

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from amphibase import NotSupported
from amphibase.sql.records.model_info import ModelInfo


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
def test_classes_that_share_a_table_by_a_column_are_refused(model: type[Apart]) -> None:
    """Each would be given the rows of the others."""
    with pytest.raises(NotSupported, match=f"^{model.__name__} shares its table"):
        ModelInfo(model)
