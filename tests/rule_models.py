"""Models of the tests whose access rules once meant different things to different backends."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from amphibase import Access, Base, Owned
from amphibase.access import Add, admin, everyone, me, owner, rule, service
from amphibase.models import SoftDelete


class Enquiry(Base):
    """Everyone's to send, the administrators' to read; the database counts its key."""

    __tablename__ = "t_enquiries"
    __access__ = Access(read=admin, add=Add(everyone, visible=False))

    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="new")
    sent_at: Mapped[datetime] = mapped_column(server_default=func.now())
    handled: Mapped[str] = mapped_column(server_default="no", info={"add": service})


class Listing(Owned, Base):
    """Its owner's; a new one is cheap, and one that is there is changed by administrators."""

    __tablename__ = "t_listings"
    __access__ = Access(
        read=owner & rule(lambda row: row.price < 100) | admin,
        add=owner & rule(lambda row: row.price < 10),
        change=admin,
    )
    price: Mapped[int]


class Parcel(Base):
    """Of those whose token names its depot, or a high enough level."""

    __tablename__ = "t_parcels"
    __access__ = Access(
        read=rule(lambda row: row.depot_id == me.claim("app_metadata", "depot_id", type=UUID))
        | rule(lambda row: row.level < me.claim("app_metadata", "level", type=int))
    )
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    depot_id: Mapped[UUID]
    level: Mapped[int]


class Memo(SoftDelete, Owned, Base):
    """Its owner changes it, and the administrators delete it."""

    __tablename__ = "t_memos"
    __access__ = Access(read=owner | admin, add=owner, change=owner, delete=admin)
    title: Mapped[str]
