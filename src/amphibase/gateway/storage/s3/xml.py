"""The XML of the S3 protocol: bodies of requests and of responses."""

import re
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, TreeBuilder, tostring
from xml.parsers import expat

from starlette.responses import Response

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
XML_TYPE = "application/xml; charset=utf-8"
DECLARATION = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
MAX_DEPTH = 5
MAX_BODY_BYTES = 2 * 1024 * 1024
"""A thousand keys of a thousand characters, and their elements, fit in."""

Value = str | int | bool | None | Sequence["tuple[str, Value]"]
"""A text, or elements by name, in order; one that is None is left out."""

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(name: str, content: Value, *, namespace: bool = True) -> bytes:
    """Write a document.

    Args:
        name: of its root.
        namespace: whether the root names that of the protocol.
    """
    root = Element(name, {"xmlns": NAMESPACE} if namespace else {})
    _fill(root, content)
    written: bytes = tostring(root, encoding="utf-8")
    return DECLARATION + written


def xml_response(name: str, content: Value, status: int = 200) -> Response:
    """Respond with a document."""
    return Response(document(name, content), status, media_type=XML_TYPE)


def _fill(element: Element, content: Value) -> None:
    if isinstance(content, bool):
        element.text = str(content).lower()
    elif isinstance(content, str | int):
        element.text = _NO_XML.sub("\ufffd", str(content))
    else:
        for name, value in content or ():
            if value is not None:
                _fill(SubElement(element, name), value)


class _Refused(Exception):
    """The document has what no request of the protocol has."""


def parse(body: bytes) -> Element:
    """Read a document; the names of its elements are without their namespace.

    Declarations of types and entities are refused: no request of the protocol has any, and they are
    how a small document becomes a large one.

    Raises:
        ValueError: it is no such document.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator=" ")
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise _Refused
        builder.start(name.rpartition(" ")[2], {})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name.rpartition(" ")[2])

    def refuse(*_: Any) -> None:
        raise _Refused

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, _Refused) as error:
        raise ValueError("is not XML of the S3 protocol") from error
    return builder.close()


def text_of(element: Element, name: str) -> str | None:
    """Return the text of a child, with its blanks; None where it is missing."""
    child = element.find(name)
    return None if child is None else child.text or ""
