"""multipart/form-data (RFC 7578) from bytes in memory: one `file` part and a few small fields.

Rules: nothing is written to disk; the counts and sizes of fields are bounded; a field given twice is refused.
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
    content: list[bytes] = field(default_factory=list)


def parse_form(body: bytes, content_type: str) -> Form:
    """The form in a multipart body.

    content_type: the request's header, which carries the boundary. Raises RequestError (BODY_INVALID) for anything
    that is not a complete form with exactly one file part.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046 section 5.1.1
        raise _invalid("the multipart boundary is missing or longer than 70 characters")
    _check_delimiters(body, b"\r\n--" + boundary)
    collector = _Collector()
    parser = MultipartParser(boundary, collector.callbacks())
    try:
        parser.write(body)
        parser.finalize()
    except MultipartParseError as exc:
        raise _invalid("the multipart body is malformed") from exc
    if not collector.ended:
        raise _invalid("the multipart body ends before its closing boundary")
    return collector.form()


def _check_delimiters(body: bytes, delimiter: bytes) -> None:
    """Refuse delimiters that neither start a part nor end the form.

    The parser takes them one byte at a time: a body made of them, or of blanks after one, would stop the event loop
    for seconds. RFC 2046 section 5.1.1 forbids the one to appear in a part and the other to be written.
    """
    good = body.count(delimiter + b"\r\n") + body.count(delimiter + b"--")
    if body.count(delimiter) != good:
        raise _invalid("the multipart body is malformed")


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
            "on_part_data": lambda data, start, end: self._parts[-1].content.append(
                data[start:end]
            ),
            "on_end": self._end,
        }

    def form(self) -> Form:
        files: list[bytes] = []
        fields: dict[str, str] = {}
        for part in self._parts:
            name, content = _name_of(part), b"".join(part.content)
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
            raise _invalid(f"the form has more than {MAX_PARTS} parts")
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


def _invalid(message: str) -> RequestError:
    return RequestError(Code.BODY_INVALID, message)
