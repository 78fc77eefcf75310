"""Where requests begin and end in a stream of bytes: one strict reading of RFC 9112, in front of the parser.

Rules: no I/O; what two readers of HTTP may read in two ways is a fault, also where the RFC lets a server be lenient;
the parser behind sees only bytes that passed, so a request needs both to agree; after a fault, or after the last
request that a connection may carry, nothing passes.
"""

import re
from enum import Enum, auto

from gateway.errors import Code, RequestError

MAX_HEAD_BYTES = 32 << 10  # request line, fields and trailer; a token is at most a quarter of it
MAX_FIELDS = 100
# Chunks of one byte each would keep the event loop busy with framing: on average one must hold about 40 bytes.
FREE_FRAMING_BYTES = 32 << 10
DATA_PER_FRAMING_BYTE = 8

NOT_HTTP = "the request is not valid HTTP/1.1"
HEAD_TOO_LARGE = f"the head is over {MAX_HEAD_BYTES} bytes or {MAX_FIELDS} header fields"
BAD_TARGET = "the request target must be a path (RFC 9112 section 3.2.1), without a fragment"
BAD_HOST = "exactly one Host header is needed"
BAD_CODING = "the only transfer coding is chunked, in HTTP/1.1"
BAD_CHUNKS = "the chunks are too small: send at least 1 KiB in each"
NO_BODY = "a GET or HEAD request has no body"
NO_TUNNEL = "this server takes neither CONNECT nor an upgrade to another protocol"

# Those that web servers know; the parser behind would also take WebDAV's and some of no registry.
_METHOD = rb"GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|QUERY|CONNECT"
_REQUEST_LINE = re.compile(rb"(" + _METHOD + rb") ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
# RFC 3986: path and query of an origin-form target; a percent sign starts an escape or is none.
_TARGET = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]+|%[0-9A-Fa-f]{2})*+")
# No underscore: proxies that hand fields on as variables take content_length for content-length. No obs-text: what
# counts as white space in it differs from reader to reader.
_FIELD = re.compile(rb"([!#$%&'*+\-.^`|~0-9A-Za-z]+):([\t\x20-\x7e]*+)\r\n")
_FIELDS = re.compile(rb"(?:[!#$%&'*+\-.^`|~0-9A-Za-z]++:[\t\x20-\x7e]*+\r\n)*+")
# The fields that say where a request ends, each with the end of the line before it.
_FRAMING_FIELDS = re.compile(
    rb"\n(host|content-length|transfer-encoding|connection):([^\r]*+)", re.IGNORECASE
)
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,15}")
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_CHUNK_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,8})\r\n"
)  # no extension: their syntax is where proxies disagree
_MAX_CHUNK_LINE_BYTES = 10
_BODILESS = frozenset({b"GET", b"HEAD"})
_END = b"\r\n"
_HEAD_END = b"\r\n\r\n"


class _Part(Enum):
    REQUEST_LINE = auto()
    FIELDS = auto()
    BODY = auto()
    CHUNK_SIZE = auto()
    CHUNK_DATA = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    OVER = auto()


class Framing:
    """The framing of one connection's requests. fault: why no more is taken; None while all is well."""

    def __init__(self) -> None:
        self.fault: RequestError | None = None
        self._part = _Part.REQUEST_LINE
        self._line = bytearray()  # begun, not ended
        self._left_bytes = 0  # of the body or the chunk
        self._begin()

    @property
    def is_between(self) -> bool:
        """Whether nothing of a further request has arrived."""
        return self._part is _Part.REQUEST_LINE and not self._line

    def take(self, data: bytes) -> bytes:
        """What of these bytes, and of those held back before, is for the parser; see fault afterwards."""
        if self._left_bytes and len(data) <= self._left_bytes:
            self._left_bytes -= len(data)
            if not self._left_bytes:
                self._end_data()
            return data
        passed: list[bytes] = []
        try:
            self._take(data, passed)
        except RequestError as exc:
            self.fault = exc
            self._part = _Part.OVER
        return b"".join(passed)

    def _take(self, data: bytes, passed: list[bytes]) -> None:
        at = 0
        while at < len(data) and self._part is not _Part.OVER:
            if self._left_bytes:
                piece = data[at : at + self._left_bytes]
                at += len(piece)
                self._left_bytes -= len(piece)
            elif head := self._whole_head(data, at):
                self._take_head(head)
                at += len(head)
                piece = head
            else:
                end = data.find(b"\n", at) + 1
                self._line += data[at : end or len(data)]
                self._check_size()
                if not end:
                    return
                at = end
                piece = bytes(self._line)
                self._line.clear()
                self._take_line(piece)
            passed.append(piece)
            if self._part in _DATA_PARTS and not self._left_bytes:
                self._end_data()

    def _whole_head(self, data: bytes, at: int) -> bytes:
        """The head that lies here in one piece and in good form; empty if it is to be taken line by line.

        Most are, and this way costs a third. What is not in good form gets its fault from the other way.
        """
        if self._part is not _Part.REQUEST_LINE or self._line:
            return b""
        end = data.find(_HEAD_END, at, at + MAX_HEAD_BYTES)
        first_end = data.find(_END, at, end + 1) + len(_END)
        is_good = end >= 0 and _FIELDS.fullmatch(data, first_end, end + len(_END))
        return data[at : end + len(_HEAD_END)] if is_good else b""

    def _take_head(self, head: bytes) -> None:
        first_end = head.find(_END) + len(_END)
        self._take_request_line(head[:first_end])
        self._head_bytes = len(head)
        self._fields = head.count(_END) - 2
        if self._fields > MAX_FIELDS:
            raise _invalid(HEAD_TOO_LARGE)
        for match in _FRAMING_FIELDS.finditer(head):
            self._take_framing_field(match[1].lower(), match[2].strip(b" \t"))
        self._end_head()

    def _check_size(self) -> None:
        size = len(self._line)
        if self._part in _CHUNK_LINES:
            if size > _MAX_CHUNK_LINE_BYTES:
                raise _invalid(NOT_HTTP)
        elif self._head_bytes + size > MAX_HEAD_BYTES:
            raise _invalid(HEAD_TOO_LARGE)

    def _take_line(self, line: bytes) -> None:
        if self._part is _Part.REQUEST_LINE:
            self._take_request_line(line)
        elif self._part is _Part.FIELDS:
            self._take_field(line)
        elif self._part is _Part.TRAILER:
            self._take_trailer(line)
        elif self._part is _Part.CHUNK_SIZE:
            self._take_chunk_size(line)
        elif line == _END:
            self._part = _Part.CHUNK_SIZE
        else:
            raise _invalid(NOT_HTTP)

    def _begin(self) -> None:
        self._head_bytes = 0
        self._fields = 0
        self._hosts = 0
        self._length: int | None = None
        self._is_chunked = False
        self._is_last = False
        self._is_old = False  # HTTP/1.0
        self._method = b""
        self._framing_bytes = 0
        self._data_bytes = 0

    def _take_request_line(self, line: bytes) -> None:
        self._begin()
        self._head_bytes = len(line)
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise _invalid(NOT_HTTP)
        self._method = match[1]
        if self._method == b"CONNECT":
            raise _invalid(NO_TUNNEL)
        if not _TARGET.fullmatch(match[2]):
            raise _invalid(BAD_TARGET)
        self._is_last = self._is_old = match[3] == b"0"
        self._part = _Part.FIELDS

    def _take_field(self, line: bytes) -> None:
        if line == _END:
            self._end_head()
            return
        match = self._count_field(line)
        self._take_framing_field(match[1].lower(), match[2].strip(b" \t"))

    def _take_framing_field(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._take_host(value)
        elif name == b"content-length":
            self._take_length(value)
        elif name == b"transfer-encoding":
            self._take_coding(value)
        elif name == b"connection":
            tokens = [token.strip(b" \t") for token in value.lower().split(b",")]
            self._is_last = self._is_last or b"close" in tokens

    def _take_coding(self, value: bytes) -> None:
        # RFC 9112 section 6.1: other codings are not undone here, and HTTP/1.0 knows none.
        if value.lower() != b"chunked" or self._is_old:
            raise _invalid(BAD_CODING)
        if self._is_chunked or self._length is not None:
            raise _invalid(NOT_HTTP)
        self._is_chunked = True

    def _count_field(self, line: bytes) -> re.Match[bytes]:
        self._fields += 1
        self._head_bytes += len(line)
        if self._fields > MAX_FIELDS:
            raise _invalid(HEAD_TOO_LARGE)
        match = _FIELD.fullmatch(line)
        if match is None:
            raise _invalid(NOT_HTTP)
        return match

    def _take_host(self, value: bytes) -> None:
        self._hosts += 1
        if self._hosts > 1 or not _HOST.fullmatch(value):
            raise _invalid(BAD_HOST)  # RFC 9112 section 3.2

    def _take_length(self, value: bytes) -> None:
        # With a coding, too: RFC 9112 section 6.3, an attempt at smuggling.
        if self._length is not None or self._is_chunked or not _LENGTH.fullmatch(value):
            raise _invalid(NOT_HTTP)
        self._length = int(value)

    def _end_head(self) -> None:
        if not self._hosts and not self._is_old:
            raise _invalid(BAD_HOST)
        if self._method in _BODILESS and (self._is_chunked or self._length):
            raise _invalid(NO_BODY)  # RFC 9110 section 9.3.1: another one
        if self._is_chunked:
            self._part = _Part.CHUNK_SIZE
        elif self._length:
            self._part = _Part.BODY
            self._left_bytes = self._length
        else:
            self._end_message()

    def _take_chunk_size(self, line: bytes) -> None:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise _invalid(NOT_HTTP)
        size = int(match[1], 16)
        self._framing_bytes += len(line) + len(_END)
        self._data_bytes += size
        if self._framing_bytes > FREE_FRAMING_BYTES + self._data_bytes // DATA_PER_FRAMING_BYTE:
            raise _invalid(BAD_CHUNKS)
        self._left_bytes = size
        self._part = _Part.CHUNK_DATA if size else _Part.TRAILER

    def _take_trailer(self, line: bytes) -> None:
        if line == _END:
            self._end_message()
        else:
            self._count_field(line)

    def _end_data(self) -> None:
        if self._part is _Part.BODY:
            self._end_message()
        else:
            self._part = _Part.CHUNK_END

    def _end_message(self) -> None:
        self._part = _Part.OVER if self._is_last else _Part.REQUEST_LINE


_DATA_PARTS = frozenset({_Part.BODY, _Part.CHUNK_DATA})
_CHUNK_LINES = frozenset({_Part.CHUNK_SIZE, _Part.CHUNK_END})


def _invalid(message: str) -> RequestError:
    return RequestError(Code.HTTP_INVALID, message)
