"""Models of the tests: their tables are in Base.metadata, and so in every prepared database."""

import enum
import uuid
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    MetaData,
    String,
    Table,
    exists,
    select,
    text,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, column_property, mapped_column, relationship, validates
from sqlmodel import Field, SQLModel

from amphibase.access import (
    Access,
    Add,
    admin,
    authenticated,
    everyone,
    me,
    owner,
    rule,
    service,
)
from amphibase.models import (
    Base,
    Owned,
    PublicRead,
    ServerOnly,
    SoftDelete,
    Timestamps,
    Versioned,
    uuid7,
)
from amphibase.records.adoption import adopt
from amphibase.search import search_index


class Category(enum.StrEnum):
    """Kept by its values, which differ from its names."""

    NEWS = "the news"
    OPINION = "opinion"


class Level(enum.IntEnum):
    """Kept by its names, since its values are not text."""

    LOW = 1
    HIGH = 2


class Note(Owned, Base):
    """The owner's alone."""

    __tablename__ = "t_notes"
    __table_args__ = (search_index("ix_t_notes_search", "title"),)

    title: Mapped[str]
    stars: Mapped[int]


class Post(PublicRead, Base):
    """Everyone's to read, the owner's to write; with a column that nobody outside sees."""

    __tablename__ = "t_posts"

    title: Mapped[str] = mapped_column(String(50))
    body: Mapped[str | None]
    category: Mapped[Category] = mapped_column(default=Category.NEWS)
    price: Mapped[Decimal] = mapped_column(default=Decimal(0))
    tags: Mapped[list[str]] = mapped_column(default=list)
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    remark: Mapped[str] = mapped_column(default="", server_default="", info={"read": service})
    comments: Mapped[list["Comment"]] = relationship(back_populates="post")


class Licence(PublicRead, Base):
    """Everyone's to read but for its key; its plan is the service's to set, and its team stays."""

    __tablename__ = "t_licences"

    name: Mapped[str]
    key: Mapped[str] = mapped_column(
        default="", server_default="", unique=True, info={"read": service}
    )
    plan: Mapped[str] = mapped_column(server_default="free", info={"write": service})
    team: Mapped[str] = mapped_column(default="none", info={"change": service})


class Clip(PublicRead, Base):
    """Everyone's to read, though the note that it refers to may be another's alone."""

    __tablename__ = "t_clips"
    __changes__ = True

    name: Mapped[str]
    note_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("t_notes.id", ondelete="CASCADE"), info={"references": "any"}
    )
    note: Mapped[Note | None] = relationship()
    note_title: Mapped[str | None] = column_property(
        select(Note.title).where(Note.id == note_id).correlate_except(Note).scalar_subquery()
    )

    @hybrid_property
    def note_stars(self) -> int | None:
        return self.note.stars if self.note else None

    @note_stars.inplace.expression
    @classmethod
    def _note_stars(cls) -> ColumnElement[int | None]:
        return select(Note.stars).where(Note.id == cls.note_id).scalar_subquery()


class Pin(PublicRead, Base):
    """Everyone's to read, and refers to notes that its owner sees."""

    __tablename__ = "t_pins"

    name: Mapped[str] = mapped_column(default="pin")
    note_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("t_notes.id", ondelete="CASCADE"))


class Folder(SoftDelete, Owned, Base):
    """In another, or in none; read by its owner and by those who have a key to it."""

    __tablename__ = "t_folders"
    __access__ = Access(
        read=owner
        | rule(lambda row: exists().where(Key.folder_id == row.id, Key.user_id == me.id)),
        write=owner,
    )

    parent_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("t_folders.id"))


class Key(PublicRead, Base):
    """Everyone's to read: a key that the owner of a folder hands out."""

    __tablename__ = "t_keys"

    folder_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("t_folders.id", ondelete="CASCADE"))
    user_id: Mapped[uuid.UUID]


class Remark(Owned, Base):
    """Its owner's alone; holds on to the note that it is about."""

    __tablename__ = "t_remarks"

    note_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("t_notes.id"), info={"references": "any"})


class Article(SoftDelete, Owned, Base):
    """Stays when it is deleted, and leaves its slug to others; with a validator and a check."""

    __tablename__ = "t_articles"
    __table_args__ = (
        CheckConstraint("stars > 0", name="stars_positive"),
        Index(
            "ux_t_articles_slug",
            "slug",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    slug: Mapped[str]
    title: Mapped[str] = mapped_column(default="untitled")
    stars: Mapped[int] = mapped_column(default=1)

    @validates("title")
    def _stripped(self, _: str, title: str) -> str:
        if "bad" in title:
            raise ValueError("must not be bad")
        return title.strip()


class Board(Timestamps, Base):
    """Read by signed-in users, written by administrators."""

    __tablename__ = "t_boards"
    __access__ = Access(read=authenticated, write=admin)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str] = mapped_column(unique=True)


class Rate(Base):
    """Signed-in people read it, the service writes it."""

    __tablename__ = "t_rates"
    __access__ = Access(read=authenticated, write=service)

    id: Mapped[int] = mapped_column(primary_key=True)


class Secret(ServerOnly, Timestamps, Base):
    """The service's alone."""

    __tablename__ = "t_secrets"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    text: Mapped[str]


class Draft(SoftDelete, Owned, Base):
    """Stays when it is deleted."""

    __tablename__ = "t_drafts"

    title: Mapped[str]


class Task(SoftDelete, Owned, Base):
    """Its owner's alone, with a log of its changes."""

    __tablename__ = "t_tasks"
    __changes__ = True

    title: Mapped[str]
    stars: Mapped[int] = mapped_column(default=0)
    weight: Mapped[float | None]
    data: Mapped[bytes | None]
    note_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("t_notes.id"))
    note: Mapped[Note | None] = relationship()


class Document(Versioned, Owned, Base):
    """Counts its versions."""

    __tablename__ = "t_documents"

    title: Mapped[str]


def _link(context: Any) -> str:
    found: str = context.get_current_parameters()["heading"]
    return found.lower()


class Page(Versioned, PublicRead, Base):
    """Everyone's to read, with versions; its title has another name in the database, and its link
    is made of it."""

    __tablename__ = "t_pages"

    title: Mapped[str] = mapped_column("heading", unique=True)
    link: Mapped[str] = mapped_column(default=_link)


book_tags = Table(
    "t_book_tags",
    Base.metadata,
    Column("book_id", ForeignKey("t_books.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("t_tags.id", ondelete="CASCADE"), primary_key=True),
)


class Author(Timestamps, Base):
    """Has many books."""

    __tablename__ = "t_authors"
    __access__ = Access(read=everyone, write=authenticated)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship(back_populates="author")
    interests: Mapped[list["Tag"]] = relationship(secondary="t_interests")
    sources: Mapped[list[Note]] = relationship(secondary="t_sources")


class Book(Timestamps, Base):
    """Has one author and many tags."""

    __tablename__ = "t_books"
    __access__ = Access(read=everyone, write=authenticated)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    title: Mapped[str]
    author_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("t_authors.id", ondelete="CASCADE")
    )
    author: Mapped[Author | None] = relationship(back_populates="books")
    tags: Mapped[list["Tag"]] = relationship(secondary=book_tags, back_populates="books")


class Tag(Base):
    """Has many books, as they have many tags."""

    __tablename__ = "t_tags"
    __access__ = Access(read=everyone, write=authenticated)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list[Book]] = relationship(secondary=book_tags, back_populates="tags")


class Interest(Owned, Base):
    """Its owner's alone, between an author and a tag that everyone reads."""

    __tablename__ = "t_interests"

    author_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("t_authors.id", ondelete="CASCADE"))
    tag_id: Mapped[int] = mapped_column(ForeignKey("t_tags.id", ondelete="CASCADE"))


class Source(PublicRead, Base):
    """Everyone's to read, between an author and a note that is its owner's alone."""

    __tablename__ = "t_sources"

    author_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("t_authors.id", ondelete="CASCADE"))
    note_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("t_notes.id", ondelete="CASCADE"))


class Report(Owned, Base):
    """Its owner's and the administrators'."""

    __tablename__ = "t_reports"
    __access__ = Access(read=owner | admin, write=owner | admin)

    title: Mapped[str]


class Bill(Owned, Base):
    """Its owner's to read, the administrators' to write."""

    __tablename__ = "t_bills"
    __access__ = Access(read=owner, add=Add(admin, visible=False), change=admin, delete=admin)

    title: Mapped[str]


class Letter(Base):
    """Everyone's to send, the administrators' to read."""

    __tablename__ = "t_letters"
    __access__ = Access(
        read=admin, add=Add(everyone, visible=False), change=everyone, delete=everyone
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    title: Mapped[str]


class Comment(SoftDelete, Owned, Base):
    """Its owner's word about a post that everyone reads; stays when it is deleted."""

    __tablename__ = "t_comments"

    text: Mapped[str]
    post_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("t_posts.id", ondelete="CASCADE"))
    post: Mapped[Post] = relationship(back_populates="comments")


class Pet(SQLModel, table=True):
    """Its owner's alone; a class of SQLModel, with a MetaData of its own."""

    __tablename__ = "t_pets"
    __access__ = Access(read=owner, write=owner)
    metadata = MetaData()

    id: int | None = Field(default=None, primary_key=True)
    owner_id: uuid.UUID | None = Field(default=None, foreign_key="users.id", nullable=False)
    name: str = Field(max_length=10)
    chip: str = Field(default="", exclude=True)


adopt(Pet)
