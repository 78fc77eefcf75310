"""multipart/form-data (RFC 7578) from bytes in memory: one `file` part and a few small fields.

Rules: nothing is written to disk; the counts and sizes of fields are bounded; a field given twice is refused; no byte
of a part's content is looked at by itself: it runs on the event loop.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.errors import Code, RequestError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks  # exists for type checkers only

FILE_FIELDS = frozenset({"file", "image"})  # `image` is what older Ultralytics HUB clients send
MAX_PARTS = 32
MAX_FIELD_BYTES = 4096
MAX_PART_HEADER_BYTES = 1024
MAX_CONTENT_TYPE_BYTES = 256  # the longest boundary takes 101 of them
_MAX_PART_HEAD_BYTES = (
    16 << 10
)  # more than the parser takes of headers that are each within their bound
_BLANK_LINE = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Form:
    """A parsed form: the bytes of its one file part, and its text fields."""

    file: bytes
    fields: Mapping[str, str]


@dataclass(slots=True)
class _Part:
    headers: dict[str, str] = field(default_factory=dict)
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)


def parse_form(body: bytes, content_type: str) -> Form:
    """The form in a multipart body.

    content_type: the request's header, which carries the boundary. Raises RequestError (BODY_INVALID) for anything
    that is not a complete form with exactly one file part.
    """
    if len(content_type) > MAX_CONTENT_TYPE_BYTES:
        # The time that its parser takes grows with the square of its length.
        raise _invalid(f"the Content-Type is longer than {MAX_CONTENT_TYPE_BYTES} characters")
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046 section 5.1.1
        raise _invalid("the multipart boundary is missing or longer than 70 characters")
    outline, contents = _split(body, b"\r\n--" + boundary)
    collector = _Collector()
    parser = MultipartParser(boundary, collector.callbacks())
    try:
        parser.write(outline)
        parser.finalize()
    except MultipartParseError as exc:
        raise _malformed() from exc
    if not collector.ended:
        raise _invalid("the multipart body ends before its closing boundary")
    return collector.form(contents)


def _split(body: bytes, delimiter: bytes) -> tuple[bytes, list[bytes]]:
    """The form with all its contents left out, and these.

    The parser takes a body of delimiters, of blanks after one, or of their beginnings one byte at a time: it would stop
    the event loop for seconds. RFC 2046 section 5.1.1 forbids a delimiter in a part, and lets a preamble come first,
    which no client sends.
    """
    outline: list[bytes] = []
    contents: list[bytes] = []
    at = _end_of_first(body, delimiter)
    while at >= 0 and not body.startswith(b"--", at):
        if len(contents) == MAX_PARTS:
            raise _too_many_parts()
        end = body.find(delimiter, at)
        head_end = min(at + _MAX_PART_HEAD_BYTES, end if end >= 0 else len(body))
        content_at = body.find(_BLANK_LINE, at, head_end) + len(_BLANK_LINE)
        if not body.startswith(b"\r\n", at) or content_at < at:
            raise _malformed()
        outline += [delimiter, body[at:content_at]]
        contents.append(body[content_at:end])
        at = end + len(delimiter) if end >= 0 else -1
    if at >= 0:
        outline += [delimiter, b"--"]  # what follows is an epilogue
    return b"".join(outline), contents


def _end_of_first(body: bytes, delimiter: bytes) -> int:
    """Where the first delimiter of a body ends; -1 for no body."""
    for first in (delimiter[2:], delimiter):
        if body.startswith(first):
            return len(first)
    if body:
        raise _malformed()
    return -1


class _Collector:
    """Gathers the parser's events into parts."""

    def __init__(self) -> None:
        self.ended = False
        self._parts: list[_Part] = []

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header(data[start:end], name=True),
            "on_header_value": lambda data, start, end: self._header(data[start:end], name=False),
            "on_header_end": self._end_header,
            "on_end": self._end,
        }

    def form(self, contents: list[bytes]) -> Form:
        files: list[bytes] = []
        fields: dict[str, str] = {}
        for part, content in zip(self._parts, contents, strict=True):
            name = _name_of(part)
            if name in FILE_FIELDS:
                files.append(content)
            elif name in fields:
                raise _invalid("a form field is given twice")
            else:
                fields[name] = _text(content)
        if len(files) != 1:
            raise _invalid(f"the form needs exactly one part named `file`, it has {len(files)}")
        return Form(file=files[0], fields=fields)

    def _begin(self) -> None:
        if len(self._parts) >= MAX_PARTS:
            raise _too_many_parts()
        self._parts.append(_Part())

    def _header(self, data: bytes, *, name: bool) -> None:
        part = self._parts[-1]
        (part.header_name if name else part.header_value).extend(data)
        if len(part.header_name) + len(part.header_value) > MAX_PART_HEADER_BYTES:
            raise _invalid(f"a part's header is longer than {MAX_PART_HEADER_BYTES} bytes")

    def _end_header(self) -> None:
        part = self._parts[-1]
        name = bytes(part.header_name).decode("latin-1").lower()
        if name in part.headers:
            # Which of two names a part has must not depend on which parser reads them.
            raise _invalid("a part's header is given twice")
        part.headers[name] = bytes(part.header_value).decode("latin-1")
        part.header_name.clear()
        part.header_value.clear()

    def _end(self) -> None:
        self.ended = True


def _name_of(part: _Part) -> str:
    kind, options = parse_options_header(part.headers.get("content-disposition", ""))
    if kind != b"form-data" or b"name" not in options:
        raise _invalid("a part has no form-data name")
    return options[b"name"].decode("latin-1")


def _text(content: bytes) -> str:
    if len(content) > MAX_FIELD_BYTES:
        raise _invalid(f"a form field is longer than {MAX_FIELD_BYTES} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _invalid("a form field is not UTF-8") from exc


def _malformed() -> RequestError:
    return _invalid("the multipart body is malformed")


def _too_many_parts() -> RequestError:
    return _invalid(f"the form has more than {MAX_PARTS} parts")


def _invalid(message: str) -> RequestError:
    return RequestError(Code.BODY_INVALID, message)
