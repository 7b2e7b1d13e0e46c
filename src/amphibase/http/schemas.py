"""The models of request and response bodies."""

from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, EmailStr, Field, JsonValue

from amphibase.records.input import PLAIN, Input

MAX_EMAIL_CHARACTERS = 254
"""The longest address that mail can be sent to (RFC 5321, section 4.5.3.1.3, with erratum 1690)."""

MAX_BAN_SECONDS = 100 * 365 * 24 * 3600
MAX_SIGNED_SECONDS = 365 * 24 * 3600


Email = Annotated[EmailStr, Field(max_length=MAX_EMAIL_CHARACTERS)]
Password = Annotated[str, Field(min_length=1, max_length=1024), PLAIN]
Name = Annotated[str, Field(max_length=100), PLAIN]
CodeChallenge = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
"""Of a code verifier, by S256 (RFC 7636, section 4.2)."""
CodeVerifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9._~-]{43,128}$")]
Token = Annotated[str, Field(min_length=1, max_length=1024), PLAIN]
Cursor = Annotated[str, Field(max_length=4096), PLAIN]


class SignUp(Input):
    email: Email
    password: Password
    name: Name = ""


class SignIn(Input):
    email: Email
    password: Password


class Refresh(Input):
    refresh_token: Token


class ForgotPassword(Input):
    email: Email


class ResetPassword(Input):
    token: Token
    password: Password


class ChangePassword(Input):
    current_password: Password | None = Field(
        None, description="Not needed while the account has no password"
    )
    new_password: Password


class ChangeEmail(Input):
    email: Email
    current_password: Password | None = Field(
        None, description="Not needed while the account has no password"
    )


class ConfirmEmailChange(Input):
    token: Token


class VerifyEmail(Input):
    token: Token
    password: Password | None = Field(
        None, description="The password of the sign-up, where CONFIRMATION_ASKS_PASSWORD is set"
    )


class ResendVerification(Input):
    email: Email


class RedeemCode(Input):
    code: Token
    code_verifier: CodeVerifier


class LinkIdentity(Input):
    redirect_to: Annotated[str, Field(max_length=2048), PLAIN] | None = Field(
        None, description="One of OAUTH_REDIRECT_URLS; the first of them by default"
    )
    code_challenge: CodeChallenge
    code_challenge_method: Literal["S256"]


class Invite(Input):
    email: Email
    name: Name = ""
    admin: bool = False


class AcceptInvitation(Input):
    token: Token
    password: Password
    name: Name = ""


class UpdateMe(Input):
    name: Name | None = None


class CreateUser(Input):
    email: Email
    password: Password | None = None
    name: Name = ""
    admin: bool = False


class UpdateUser(Input):
    email: Email | None = None
    password: Password | None = None
    name: Name | None = None
    admin: bool | None = None


class Ban(Input):
    seconds: Annotated[int, Field(ge=1, le=MAX_BAN_SECONDS)] | None = Field(
        None, description="How long; for good when left out"
    )


class SessionRead(BaseModel):
    """One place where the user is signed in."""

    id: UUID
    user_agent: str | None
    ip: str | None
    created_at: AwareDatetime
    refreshed_at: AwareDatetime
    current: bool


class IdentityRead(BaseModel):
    """One way in which the user signs in."""

    id: UUID
    provider: str
    email: str | None
    created_at: AwareDatetime
    last_sign_in_at: AwareDatetime | None


class RedirectUrl(BaseModel):
    """Where to send the browser."""

    url: str


Item = TypeVar("Item")
UserRead = TypeVar("UserRead", bound=BaseModel)


class ListOf(BaseModel, Generic[Item]):
    """A part of a list; `next_cursor` continues it."""

    items: list[Item]
    next_cursor: str | None = None


class Groups(BaseModel):
    """The aggregates of groups of rows."""

    items: list[dict[str, JsonValue]]


class SignedInResponse(BaseModel, Generic[UserRead]):
    """A user with their tokens."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="Seconds that the access token is good for")
    expires_at: int = Field(description="When the access token ends, in seconds since the epoch")
    refresh_token: str
    user: UserRead


class AwaitingConfirmation(BaseModel, Generic[UserRead]):
    """A new user who has yet to confirm their address."""

    user: UserRead


class EmailVerified(BaseModel, Generic[UserRead]):
    """A user whose address is confirmed; with a session where a password has to be chosen."""

    user: UserRead
    password_required: bool = Field(
        description="Whether no password counts: choose one by POST /auth/password/change"
    )
    access_token: str | None = None
    token_type: Literal["bearer"] = "bearer"
    expires_in: int | None = None
    expires_at: int | None = None
    refresh_token: str | None = None


class EmailChangeConfirmed(BaseModel):
    """What the link of a change of address did."""

    changed: bool = Field(
        description="False until the link that was sent to the other address is followed too"
    )


class Problem(BaseModel):
    """What went wrong (RFC 9457); an application's own errors may have further members."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None


class FileRead(BaseModel):
    """A file, without its bytes."""

    bucket: str
    path: str
    file_name: str = Field(description="The last part of the path")
    size: int = Field(description="In bytes")
    content_type: str
    etag: str
    owner_id: UUID | None
    public_url: str | None = Field(description="Where everybody can read it; in public buckets")
    created_at: AwareDatetime
    updated_at: AwareDatetime


FilePath = Annotated[str, Field(min_length=1, max_length=4096), PLAIN]
BucketName = Annotated[str, Field(min_length=1, max_length=100), PLAIN]
TypePattern = Annotated[str, Field(pattern=r"^[\w.+-]+/(\*|[\w.+-]+)$", max_length=100)]


class SignFile(Input):
    bucket: BucketName
    path: FilePath
    expires_in: Annotated[int, Field(ge=1, le=MAX_SIGNED_SECONDS, description="Seconds")] = 3600


class SignedUrlRead(BaseModel):
    """A URL that opens the file without signing in."""

    url: str
    expires_at: AwareDatetime


class MoveFile(Input):
    bucket: BucketName
    path: FilePath
    to_path: FilePath
    to_bucket: BucketName | None = None


class BucketRead(BaseModel):
    """A room for files, with its own rules."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    public: bool
    file_size_limit: int | None = Field(description="In bytes")
    allowed_types: list[str]
    created_at: AwareDatetime
    updated_at: AwareDatetime


FileSizeLimit = Annotated[int, Field(ge=1, le=2**62)]
TypePatterns = Annotated[list[TypePattern], Field(max_length=100)]


class CreateBucket(Input):
    id: BucketName
    public: bool = False
    file_size_limit: FileSizeLimit | None = None
    allowed_types: TypePatterns = Field(default_factory=list)


class UpdateBucket(Input):
    public: bool = False
    file_size_limit: FileSizeLimit | None = None
    allowed_types: TypePatterns = Field(default_factory=list)
