"""What a started application holds."""

from typing import Any

from amphibase.blobs.resumable import ResumableUploads
from amphibase.models import User
from amphibase.services.auth import AuthService
from amphibase.services.files import FileService, Uploaded
from amphibase.services.users import UserService
from amphibase.settings import Settings
from amphibase.sql.backend import SqlBackend


class Running:
    """What exists between start and stop: the backend and the services over it."""

    def __init__(self, settings: Settings, backend: SqlBackend, user: type[User]) -> None:
        self.backend = backend
        self.users: UserService[Any] = UserService(self.backend, user)
        self.files = FileService(
            self.backend.files,
            max_bytes=settings.max_upload_bytes,
            allowed_types=settings.allowed_types,
        )
        self.uploads = ResumableUploads(settings.data_dir / "unfinished", Uploaded(self.files))
        self.auth: AuthService[Any] = AuthService(self.backend.accounts, self.users, user)
