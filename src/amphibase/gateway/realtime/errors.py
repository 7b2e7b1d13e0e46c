"""The errors of Realtime, in the words of Supabase Realtime, which the official clients read."""

from amphibase.accounts.jwt.verifier import TokenFault


class RealtimeError(Exception):
    """What is not done, and why.

    Attributes:
        code: before the message in the reply to a join; some clients decide by it.
        status: of the response to a handshake or a request.
        message: the reason, without the code.
    """

    code = "UnknownError"
    status = 400
    message = "Unknown Error on Channel"

    def __init__(self, message: str | None = None) -> None:
        self.message = message or self.message
        super().__init__(self.message)

    @property
    def detail(self) -> str:
        """The message on a channel, which says more than that of a handshake."""
        return self.message

    @property
    def reason(self) -> str:
        """The reason of a join's reply."""
        return f"{self.code}: {self.detail}"


class MissingApiKey(RealtimeError):
    """A handshake or a request without a token."""

    code = "MissingAPIKey"
    status = 401
    message = "API key is missing"


class InvalidRealtimeToken(RealtimeError):
    """A token that is not valid, or that lacks a claim."""

    code = "InvalidJWTToken"
    status = 401
    message = "Fields `role` and `exp` are required in JWT"


class MalformedRealtimeToken(InvalidRealtimeToken):
    """A text that is not a token."""

    code = "MalformedJWT"
    message = "The token provided is not a valid JWT"


class RealtimeSignatureError(InvalidRealtimeToken):
    """A token that no key of the project signed."""

    code = "JwtSignatureError"
    message = "Failed to validate JWT signature"


class ExpiredRealtimeToken(InvalidRealtimeToken):
    """A token whose time is over.

    Attributes:
        seconds: for how long it has been.
    """

    message = "Token has expired"

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds

    @property
    def detail(self) -> str:
        return f"{self.message} {self.seconds} seconds ago"


class TooManyConnections(RealtimeError):
    code = "ConnectionRateLimitReached"
    status = 429
    message = "Too many connected users"


class TooManyChannels(RealtimeError):
    code = "ChannelRateLimitReached"
    message = "Too many channels"


class TooManyBindings(RealtimeError):
    code = "InvalidJoinPayload"

    def __init__(self, of: str, most: int) -> None:
        super().__init__(f"Too many postgres_changes of one {of}. Maximum {most}")


class TooManyJoins(RealtimeError):
    code = "ClientJoinRateLimitReached"
    status = 429
    message = "Too many joins per second"


class TooManyMessages(RealtimeError):
    code = "MessagePerSecondRateLimitReached"
    status = 429
    message = "Too many messages per second"


class TooManyPresenceMessages(RealtimeError):
    code = "ClientPresenceRateLimitReached"
    message = "Too many presence messages per second"


class TopicNameRequired(RealtimeError):
    code = "TopicNameRequired"
    message = "You must provide a topic name"


class NameTooLong(RealtimeError):
    code = "InvalidJoinPayload"

    def __init__(self, name: str, most: int) -> None:
        super().__init__(f"The {name} is too long. Maximum {most} bytes")


class NoLongerReadable(RealtimeError):
    """A private channel of which the caller's new token reads less than the one before."""

    code = "Unauthorized"

    def __init__(self, topic: str) -> None:
        super().__init__(f"You no longer have permission to read from this Channel topic: {topic}")


class InvalidReplay(RealtimeError):
    """A join that wants messages to be sent again that cannot be."""

    code = "UnableToReplayMessages"


class ChangesRejected(RealtimeError):
    """A join that waits for changes which it cannot have."""

    code = "RealtimeDisabledForConfiguration"


class ChangesNotSent(RealtimeError):
    """A join that waits for changes while the database sends none."""

    code = "PostgresChangesSubscribeTimeout"


class NotReadable(RealtimeError):
    """A private channel that no policy lets the caller read."""

    code = "Unauthorized"
    status = 403

    def __init__(self, topic: str) -> None:
        super().__init__(f"You do not have permissions to read from this Channel topic: {topic}")


class DatabaseUnreachable(RealtimeError):
    """A private channel whose policies cannot be asked."""

    code = "UnableToConnectToProject"
    status = 503
    message = "Realtime was unable to connect to the project database"


def token_error(fault: TokenFault, reason: str) -> InvalidRealtimeToken:
    """Return the error for a token that the verifier rejects, and that has not expired."""
    match fault:
        case TokenFault.PARTS | TokenFault.MALFORMED:
            return MalformedRealtimeToken()
        case TokenFault.SIGNATURE | TokenFault.KEY | TokenFault.ALGORITHM:
            return RealtimeSignatureError()
        case _:
            return InvalidRealtimeToken(f"The token is rejected: {reason}")
