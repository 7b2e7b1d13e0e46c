"""A form with one file, read as it comes: the file's bytes are passed on and never stored.

The framework's own form parser writes every file to a disk before the route sees it.
"""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from amphibase.errors import InvalidRequest

MAX_FIELD_BYTES = 8 * 1024
PART_BYTES = 64
"""What a part of a form has at least, whatever is in it."""

CUT_SHORT = "The form ends before it is complete"


@dataclass(slots=True)
class _Part:
    """The beginning of a part."""

    headers: dict[bytes, bytes] = field(default_factory=dict)


class _End:
    """The end of a part."""


class UploadForm:
    """A `multipart/form-data` body with a file, and small text fields.

    Args:
        fields: the names of the text fields that are taken; None takes all.
        file: the name of the file's field; None takes the first file under whatever name, and
            passes over text fields that are not taken.
        max_field_bytes: of a text field; of all together, where any name is taken or passed over.

    Attributes:
        values: the text fields read so far; all of them once the file's bytes are at their end.
        file_name: what the sender calls the file.
        content_type: what the sender says it is, if anything.

    Raises:
        InvalidRequest: the body is no such form.
    """

    def __init__(
        self,
        request: Request,
        fields: tuple[str, ...] | None,
        *,
        file: str | None = "file",
        max_field_bytes: int = MAX_FIELD_BYTES,
    ) -> None:
        kind, options = parse_options_header(request.headers.get("content-type"))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest("Send the file as multipart/form-data, in the field file")
        self._fields = fields
        self._file = file
        self._max_field_bytes = max_field_bytes
        self._stream = request.stream()
        self._events: deque[_Part | bytes | type[_End]] = deque()
        self._header = (bytearray(), bytearray())
        self._part = _Part()
        self._ended = False
        self._passed_over = 0
        self.values: dict[str, str] = {}
        self.file_name = ""
        self.content_type: str | None = None
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise InvalidRequest("The form cannot be read") from error

    async def find_file(self) -> None:
        """Read on to the first byte of the file. Raises InvalidRequest."""
        async for part in self._parts():
            name, file_name = _names(part)
            if self._is_file(name, file_name):
                assert file_name is not None
                self.file_name = file_name
                header = part.headers.get(b"content-type")
                self.content_type = header.decode("latin-1") if header else None
                return
            await self._keep(name)
        raise InvalidRequest("The form has no file in the field file")

    async def file(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes; end when the whole form is read. Raises InvalidRequest."""
        async for data in self._data():
            yield data
        async for part in self._parts():
            name, file_name = _names(part)
            if name == self._file or self._is_file(name, file_name):
                raise InvalidRequest("Send one file at a time")
            await self._keep(name)

    def _is_file(self, name: str, file_name: str | None) -> bool:
        return file_name is not None and self._file in (None, name)

    async def _keep(self, name: str) -> None:
        is_taken = self._fields is None or name in self._fields
        if not is_taken and self._file is None:
            self._pass_over(PART_BYTES)
            async for data in self._data():
                self._pass_over(len(data))
            return
        if not is_taken or name in self.values:
            raise InvalidRequest(f"The form has the field file, and once {self._fields or name}")
        value = bytearray()
        async for data in self._data():
            value += data
            if len(value) > self._max_field_bytes:
                raise InvalidRequest(f"The field {name} is too long")
        if self._fields is None:
            self._pass_over(PART_BYTES + len(name) + len(value))
        try:
            self.values[name] = value.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"The field {name} is not UTF-8") from None

    def _pass_over(self, size: int) -> None:
        self._passed_over += size
        if self._passed_over > self._max_field_bytes:
            raise InvalidRequest("The form has too much beside its file")

    async def _parts(self) -> AsyncIterator[_Part]:
        while (event := await self._next()) is not None:
            assert isinstance(event, _Part)
            yield event

    async def _data(self) -> AsyncIterator[bytes]:
        while (event := await self._next()) is not _End:
            assert isinstance(event, bytes)
            yield event

    async def _next(self) -> _Part | bytes | type[_End] | None:
        while not self._events:
            if self._ended:
                return None
            chunk = await anext(self._stream, b"")
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise InvalidRequest("The form cannot be read") from error
            if not chunk and not self._ended:
                raise InvalidRequest(CUT_SHORT)
        return self._events.popleft()

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _on_header_end(self) -> None:
        name, value = self._header
        self._part.headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        self._events.append(self._part)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_part_end(self) -> None:
        self._events.append(_End)

    def _on_end(self) -> None:
        self._ended = True


def _names(part: _Part) -> tuple[str, str | None]:
    """The names of the field and of the file in it."""
    _, options = parse_options_header(part.headers.get(b"content-disposition"))
    file_name = options.get(b"filename")
    return (
        options.get(b"name", b"").decode(errors="replace"),
        None if file_name is None else file_name.decode(errors="replace"),
    )
