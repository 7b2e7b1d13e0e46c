"""Whose new rows are."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Computed
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.backends import ANN, BOB

from amphibase import ANONYMOUS, Caller
from amphibase.access import Access, Add, authenticated, everyone, rule
from amphibase.errors import InvalidValue, NotSupported
from amphibase.records.access_policy import AccessPolicy
from amphibase.records.model_info import ModelInfo
from amphibase.sql.records.new_rows import must_check_new


class Apart(DeclarativeBase):
    """Beside the application's models."""


class Feedback(Apart):
    """Everyone adds some, signed in or not."""

    __tablename__ = "feedback"
    __access__ = Access(add=Add(everyone, visible=False))

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID | None]


class Delivery(Apart):
    """With what is set anew by each change: by the database, and by SQLAlchemy."""

    __tablename__ = "deliveries"

    id: Mapped[int] = mapped_column(primary_key=True)
    weight: Mapped[int]
    price: Mapped[int] = mapped_column(Computed("weight * 2"))
    state: Mapped[str] = mapped_column(default="open", onupdate="touched")


@pytest.mark.parametrize(
    "readable",
    [lambda row: row.price < 10, lambda row: row.state == "open"],
    ids=["price", "state"],
)
def test_a_change_is_rejected_that_sets_what_a_rule_reads_unseen(
    readable: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Delivery, "__access__", Access(read=rule(readable), write=authenticated), raising=False
    )
    info = ModelInfo(Delivery)
    policy = AccessPolicy(info, ANN, by_database=False, with_deleted=False)
    with pytest.raises(NotSupported, match="set anew by each change"):
        must_check_new(policy, [info.column_of["weight"]])
    assert must_check_new(policy, [info.column_of["price"], info.column_of["state"]])


@pytest.mark.parametrize("caller", [ANONYMOUS, ANN], ids=["anonymous", "signed in"])
@pytest.mark.parametrize("by_database", [False, True])
def test_no_client_adds_a_row_in_the_name_of_another(caller: Caller, by_database: bool) -> None:
    policy = AccessPolicy(ModelInfo(Feedback), caller, by_database=by_database, with_deleted=False)
    own: dict[str, object] = {}
    policy.own(own)
    assert own == {"owner_id": caller.user_id}
    with pytest.raises(InvalidValue, match="owner_id is set by the server"):
        policy.own({"owner_id": BOB.user_id})
