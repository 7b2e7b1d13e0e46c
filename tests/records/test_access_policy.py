"""Whose new rows are."""

from uuid import UUID

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.backends import ANN, BOB

from amphibase import ANONYMOUS, Caller
from amphibase.access import Access, Add, everyone
from amphibase.errors import InvalidValue
from amphibase.records.access_policy import AccessPolicy
from amphibase.records.model_info import ModelInfo


class Apart(DeclarativeBase):
    """Beside the application's models."""


class Feedback(Apart):
    """Everyone adds some, signed in or not."""

    __tablename__ = "feedback"
    __access__ = Access(add=Add(everyone, visible=False))

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID | None]


@pytest.mark.parametrize("caller", [ANONYMOUS, ANN], ids=["anonymous", "signed in"])
@pytest.mark.parametrize("by_database", [False, True])
def test_no_client_adds_a_row_in_the_name_of_another(caller: Caller, by_database: bool) -> None:
    policy = AccessPolicy(ModelInfo(Feedback), caller, by_database=by_database, with_deleted=False)
    own: dict[str, object] = {}
    policy.own(own)
    assert own == {"owner_id": caller.user_id}
    with pytest.raises(InvalidValue, match="owner_id is set by the server"):
        policy.own({"owner_id": BOB.user_id})
