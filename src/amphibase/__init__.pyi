"""The public names, written once: `__init__.py` reads them here."""

from amphibase.access import (
    Access as Access,
)
from amphibase.accounts.jwt.key_ring import (
    create_access_token as create_access_token,
)
from amphibase.accounts.passwords import (
    hash_password as hash_password,
)
from amphibase.accounts.passwords import (
    verify_password as verify_password,
)
from amphibase.backend import (
    ANONYMOUS as ANONYMOUS,
)
from amphibase.backend import (
    SERVICE as SERVICE,
)
from amphibase.backend import (
    Account as Account,
)
from amphibase.backend import (
    Accounts as Accounts,
)
from amphibase.backend import (
    Added as Added,
)
from amphibase.backend import (
    Backend as Backend,
)
from amphibase.backend import (
    Bucket as Bucket,
)
from amphibase.backend import (
    Caller as Caller,
)
from amphibase.backend import (
    Capabilities as Capabilities,
)
from amphibase.backend import (
    Changed as Changed,
)
from amphibase.backend import (
    ChangeEvent as ChangeEvent,
)
from amphibase.backend import (
    Changes as Changes,
)
from amphibase.backend import (
    Claims as Claims,
)
from amphibase.backend import (
    Device as Device,
)
from amphibase.backend import (
    File as File,
)
from amphibase.backend import (
    Files as Files,
)
from amphibase.backend import (
    Lost as Lost,
)
from amphibase.backend import (
    Message as Message,
)
from amphibase.backend import (
    Messages as Messages,
)
from amphibase.backend import (
    OAuthRequest as OAuthRequest,
)
from amphibase.backend import (
    OpenFile as OpenFile,
)
from amphibase.backend import (
    Page as Page,
)
from amphibase.backend import (
    Presence as Presence,
)
from amphibase.backend import (
    PresenceEvent as PresenceEvent,
)
from amphibase.backend import (
    PresenceJoin as PresenceJoin,
)
from amphibase.backend import (
    PresenceLeave as PresenceLeave,
)
from amphibase.backend import (
    Presences as Presences,
)
from amphibase.backend import (
    PresenceSync as PresenceSync,
)
from amphibase.backend import (
    PresenceUpdate as PresenceUpdate,
)
from amphibase.backend import (
    Removed as Removed,
)
from amphibase.backend import (
    Repository as Repository,
)
from amphibase.backend import (
    SignedIn as SignedIn,
)
from amphibase.backend import (
    SignedUrl as SignedUrl,
)
from amphibase.backend import (
    SignUpAttempt as SignUpAttempt,
)
from amphibase.backend import (
    Tokens as Tokens,
)
from amphibase.backend import (
    Topic as Topic,
)
from amphibase.backend import (
    TopicRequest as TopicRequest,
)
from amphibase.backend import (
    Transaction as Transaction,
)
from amphibase.backend import (
    UserIdentity as UserIdentity,
)
from amphibase.backend import (
    UserSession as UserSession,
)
from amphibase.build import (
    open_backend as open_backend,
)
from amphibase.errors import (
    AmphibaseError as AmphibaseError,
)
from amphibase.errors import (
    ConfigurationError as ConfigurationError,
)
from amphibase.errors import (
    Conflict as Conflict,
)
from amphibase.errors import (
    EmailAlreadyRegistered as EmailAlreadyRegistered,
)
from amphibase.errors import (
    EmailDomainNotAllowed as EmailDomainNotAllowed,
)
from amphibase.errors import (
    EmailNotConfirmed as EmailNotConfirmed,
)
from amphibase.errors import (
    Forbidden as Forbidden,
)
from amphibase.errors import (
    ForeignKeyViolation as ForeignKeyViolation,
)
from amphibase.errors import (
    HookError as HookError,
)
from amphibase.errors import (
    HookTimeout as HookTimeout,
)
from amphibase.errors import (
    IdentityNotLinked as IdentityNotLinked,
)
from amphibase.errors import (
    IncompleteUpload as IncompleteUpload,
)
from amphibase.errors import (
    InvalidCredentials as InvalidCredentials,
)
from amphibase.errors import (
    InvalidCursor as InvalidCursor,
)
from amphibase.errors import (
    InvalidLink as InvalidLink,
)
from amphibase.errors import (
    InvalidPath as InvalidPath,
)
from amphibase.errors import (
    InvalidRefreshToken as InvalidRefreshToken,
)
from amphibase.errors import (
    InvalidRequest as InvalidRequest,
)
from amphibase.errors import (
    InvalidSignature as InvalidSignature,
)
from amphibase.errors import (
    InvalidToken as InvalidToken,
)
from amphibase.errors import (
    InvalidValue as InvalidValue,
)
from amphibase.errors import (
    NotAdmin as NotAdmin,
)
from amphibase.errors import (
    NotFound as NotFound,
)
from amphibase.errors import (
    NotLoaded as NotLoaded,
)
from amphibase.errors import (
    NotSupported as NotSupported,
)
from amphibase.errors import (
    PayloadTooLarge as PayloadTooLarge,
)
from amphibase.errors import (
    PreconditionFailed as PreconditionFailed,
)
from amphibase.errors import (
    RangeNotSatisfiable as RangeNotSatisfiable,
)
from amphibase.errors import (
    RequestTimeout as RequestTimeout,
)
from amphibase.errors import (
    SessionEnded as SessionEnded,
)
from amphibase.errors import (
    SignUpClosed as SignUpClosed,
)
from amphibase.errors import (
    StaleVersion as StaleVersion,
)
from amphibase.errors import (
    StorageFull as StorageFull,
)
from amphibase.errors import (
    TooManyRequests as TooManyRequests,
)
from amphibase.errors import (
    TransactionClosed as TransactionClosed,
)
from amphibase.errors import (
    Unauthenticated as Unauthenticated,
)
from amphibase.errors import (
    Unavailable as Unavailable,
)
from amphibase.errors import (
    UnsupportedFileType as UnsupportedFileType,
)
from amphibase.errors import (
    UserBanned as UserBanned,
)
from amphibase.errors import (
    WeakPassword as WeakPassword,
)
from amphibase.http.app import (
    Amphibase as Amphibase,
)
from amphibase.http.changes import (
    ChangeFeed as ChangeFeed,
)
from amphibase.http.dependencies import (
    AdminUser as AdminUser,
)
from amphibase.http.dependencies import (
    CurrentCaller as CurrentCaller,
)
from amphibase.http.dependencies import (
    CurrentUser as CurrentUser,
)
from amphibase.http.dependencies import (
    Session as Session,
)
from amphibase.http.dependencies import (
    admin_user as admin_user,
)
from amphibase.http.dependencies import (
    current_caller as current_caller,
)
from amphibase.http.dependencies import (
    current_session as current_session,
)
from amphibase.http.dependencies import (
    current_user as current_user,
)
from amphibase.http.messages import (
    MessageFeed as MessageFeed,
)
from amphibase.http.presence import (
    PresenceFeed as PresenceFeed,
)
from amphibase.messages.access import (
    readers_of as readers_of,
)
from amphibase.models import Base as Base
from amphibase.models import Owned as Owned
from amphibase.models import PublicRead as PublicRead
from amphibase.models import ServerOnly as ServerOnly
from amphibase.models import SoftDelete as SoftDelete
from amphibase.models import Timestamps as Timestamps
from amphibase.models import User as User
from amphibase.models import Versioned as Versioned
from amphibase.settings.application import (
    Settings as Settings,
)
from amphibase.settings.application import (
    load_settings as load_settings,
)
