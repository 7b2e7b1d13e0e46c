"""What exists between the start and the stop of an application."""

from typing import Any

from amphibase.backend import Backend
from amphibase.blobs.resumable import ResumableUploads, UploadLimits
from amphibase.models import User
from amphibase.services.auth import AuthenticationService
from amphibase.services.files import FileDestination, FileService
from amphibase.services.users import UserService
from amphibase.settings import Settings


class State:
    """The backend of a started application, and the services over it.

    Attributes:
        settings: of the application.
        backend: records, accounts and files, whatever keeps them.
        users: the profiles, synchronised with the accounts.
        auth: sign-up and sign-in.
        files: files, with their limits and types checked.
        uploads: uploads that can be resumed.
    """

    def __init__(self, settings: Settings, backend: Backend, user: type[User]) -> None:
        self.settings = settings
        self.backend = backend
        self.users: UserService[Any] = UserService(backend, user)
        self.auth: AuthenticationService[Any] = AuthenticationService(backend.accounts, self.users)
        self.files = FileService(
            backend.files,
            max_bytes=settings.max_upload_bytes,
            allowed_types=settings.allowed_types,
        )
        self.uploads = ResumableUploads(
            settings.data_dir / "unfinished",
            FileDestination(self.files),
            UploadLimits(settings.max_unfinished_uploads_per_user, settings.max_unfinished_uploads),
        )
