"""What exists between the start and the stop of an application."""

from typing import Any

from amphibase.backend import Backend
from amphibase.blobs.resumable import ResumableUploads, UploadLimits
from amphibase.http.streams import StreamLimiter
from amphibase.models import User
from amphibase.services.auth import AuthenticationService
from amphibase.services.files import FileDestination, FileService
from amphibase.services.hooks import ApplicationHooks, HookFunctions
from amphibase.services.users import UserService
from amphibase.settings.application import Settings


class State:
    """The backend of a started application, and the services over it.

    Raises:
        NotSupported: the application has hooks, and the backend cannot run them.

    Attributes:
        settings: of the application.
        backend: records, accounts and files, whatever keeps them.
        users: the profiles, synchronised with the accounts.
        auth: sign-up and sign-in.
        streams: how many streams are open.
        files: files, with their limits and types checked.
        uploads: uploads that can be resumed.
    """

    def __init__(
        self, settings: Settings, backend: Backend, user: type[User], hooks: HookFunctions
    ) -> None:
        self.settings = settings
        self.backend = backend
        self.users: UserService[Any] = UserService(backend, user)
        if hooks:
            backend.capabilities.require("hooks")
        if backend.capabilities.hooks:
            timeout = settings.hook_timeout_seconds
            backend.use_hooks(ApplicationHooks(hooks, self.users, timeout=timeout))
        self.streams = StreamLimiter(settings.max_streams_per_caller, settings.max_streams)
        self.auth: AuthenticationService[Any] = AuthenticationService(backend.accounts, self.users)
        self.files = FileService(
            backend.files,
            max_bytes=settings.max_upload_bytes,
            allowed_types=settings.allowed_types,
        )
        self.uploads = ResumableUploads(
            settings.data_dir / "unfinished",
            FileDestination(self.files),
            UploadLimits(
                settings.max_unfinished_uploads_per_user,
                settings.max_unfinished_uploads,
                settings.max_upload_bytes,
            ),
        )
