"""One data backend for FastAPI, on your own SQL database or on Supabase."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amphibase.access import Access, admin, authenticated, everyone, owner, service
    from amphibase.accounts.jwt.key_ring import create_access_token
    from amphibase.accounts.passwords import hash_password, verify_password
    from amphibase.backend import (
        ANONYMOUS,
        SERVICE,
        Account,
        Caller,
        Page,
        Repository,
        Transaction,
    )
    from amphibase.build import open_backend
    from amphibase.errors import (
        AmphibaseError,
        ConfigurationError,
        Conflict,
        EmailAlreadyRegistered,
        EmailNotConfirmed,
        Forbidden,
        ForeignKeyViolation,
        IncompleteUpload,
        InvalidCredentials,
        InvalidCursor,
        InvalidLink,
        InvalidPath,
        InvalidRefreshToken,
        InvalidRequest,
        InvalidSignature,
        InvalidToken,
        InvalidValue,
        NotAdmin,
        NotFound,
        NotLoaded,
        NotSupported,
        PayloadTooLarge,
        PreconditionFailed,
        RangeNotSatisfiable,
        SessionEnded,
        StaleVersion,
        StorageFull,
        TooManyRequests,
        Unauthenticated,
        Unavailable,
        UnsupportedFileType,
        UserBanned,
        WeakPassword,
    )
    from amphibase.http.app import Amphibase
    from amphibase.http.dependencies import (
        AdminUser,
        CurrentCaller,
        CurrentUser,
        Session,
        admin_user,
        current_caller,
        current_user,
        session,
    )
    from amphibase.models import (
        Base,
        Owned,
        PublicRead,
        ServerOnly,
        SoftDelete,
        Timestamps,
        User,
        Versioned,
    )
    from amphibase.settings import Settings, load_settings

__all__ = [
    "ANONYMOUS",
    "SERVICE",
    "Access",
    "Account",
    "AdminUser",
    "Amphibase",
    "AmphibaseError",
    "Base",
    "Caller",
    "ConfigurationError",
    "Conflict",
    "CurrentCaller",
    "CurrentUser",
    "EmailAlreadyRegistered",
    "EmailNotConfirmed",
    "Forbidden",
    "ForeignKeyViolation",
    "IncompleteUpload",
    "InvalidCredentials",
    "InvalidCursor",
    "InvalidLink",
    "InvalidPath",
    "InvalidRefreshToken",
    "InvalidRequest",
    "InvalidSignature",
    "InvalidToken",
    "InvalidValue",
    "NotAdmin",
    "NotFound",
    "NotLoaded",
    "NotSupported",
    "Owned",
    "Page",
    "PayloadTooLarge",
    "PreconditionFailed",
    "PublicRead",
    "RangeNotSatisfiable",
    "Repository",
    "ServerOnly",
    "Session",
    "SessionEnded",
    "Settings",
    "SoftDelete",
    "StaleVersion",
    "StorageFull",
    "Timestamps",
    "TooManyRequests",
    "Transaction",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedFileType",
    "User",
    "UserBanned",
    "Versioned",
    "WeakPassword",
    "admin",
    "admin_user",
    "authenticated",
    "create_access_token",
    "current_caller",
    "current_user",
    "everyone",
    "hash_password",
    "load_settings",
    "open_backend",
    "owner",
    "service",
    "session",
    "verify_password",
]

# The same once more, for the running program: a name's module is imported when the name is asked
# for, so that `amphibase --help` waits for neither FastAPI nor SQLAlchemy (PEP 562).
_PLACES = {
    "access": "Access admin authenticated everyone owner service",
    "backend": "ANONYMOUS SERVICE Account Caller Page Repository Transaction",
    "build": "open_backend",
    "errors": (
        "AmphibaseError ConfigurationError Conflict EmailAlreadyRegistered EmailNotConfirmed "
        "Forbidden ForeignKeyViolation IncompleteUpload InvalidCredentials InvalidCursor "
        "InvalidLink InvalidPath InvalidRefreshToken InvalidRequest InvalidSignature "
        "InvalidToken InvalidValue NotAdmin NotFound NotLoaded NotSupported PayloadTooLarge "
        "PreconditionFailed RangeNotSatisfiable SessionEnded StaleVersion StorageFull "
        "TooManyRequests Unauthenticated Unavailable UnsupportedFileType UserBanned "
        "WeakPassword"
    ),
    "http.app": "Amphibase",
    "http.dependencies": (
        "AdminUser CurrentCaller CurrentUser Session admin_user current_caller current_user session"
    ),
    "models": "Base Owned PublicRead ServerOnly SoftDelete Timestamps User Versioned",
    "settings": "Settings load_settings",
    "accounts.passwords": "hash_password verify_password",
    "accounts.jwt.key_ring": "create_access_token",
}


def __getattr__(name: str) -> Any:
    for place, names in _PLACES.items():
        if name in names.split():
            found = getattr(importlib.import_module(f"amphibase.{place}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
