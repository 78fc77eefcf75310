"""Forms: complete ones are read exactly, anything else is a RequestError."""

from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser

from gateway.api import multipart
from gateway.api.multipart import Form, parse_form
from gateway.errors import Code, RequestError

TYPE = "multipart/form-data; boundary=edge"


def part(name: str, content: bytes, *more: str) -> bytes:
    """One part with its leading boundary and further header lines."""
    lines = ["--edge", f'Content-Disposition: form-data; name="{name}"', *more, "", ""]
    return "\r\n".join(lines).encode("latin-1") + content + b"\r\n"


FILE = part("file", b"\xff\xd8image")
END = b"--edge--\r\n"


def refusal(body: bytes, content_type: str = TYPE) -> str:
    """The message that refuses this body."""
    with pytest.raises(RequestError) as caught:
        parse_form(body, content_type)
    assert caught.value.code is Code.BODY_INVALID
    return caught.value.message


def test_a_file_and_fields_are_read() -> None:
    """Bytes stay bytes, fields become text."""
    body = part("conf", b"0.5") + FILE + part("note", "é".encode()) + END
    assert parse_form(body, TYPE) == Form(
        file=b"\xff\xd8image", fields={"conf": "0.5", "note": "é"}
    )


def test_the_older_name_of_the_file_is_taken() -> None:
    """Older clients call it `image`."""
    assert parse_form(part("image", b"bytes") + END, TYPE).file == b"bytes"


def test_a_file_that_looks_like_boundaries_survives() -> None:
    """Line breaks, dashes and other boundaries inside the file are data."""
    content = b"\r\n--edg\r\n--other--\r\n\r\n--\r\n" + bytes(range(256))
    assert parse_form(part("file", content) + END, TYPE).file == content


@given(
    file=st.binary(max_size=500),
    fields=st.dictionaries(
        st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.text(max_size=50), max_size=20
    ),
)
def test_a_form_that_httpx_builds_comes_back(file: bytes, fields: dict[str, str]) -> None:
    """What a common client sends is read as it was meant."""
    kept = {name: text for name, text in fields.items() if name not in {"file", "image"}}
    sent = httpx.Request(
        "POST", "https://gateway.example/predict", files={"file": ("a.jpg", file)}, data=kept
    )
    assert parse_form(sent.read(), sent.headers["content-type"]) == Form(file=file, fields=kept)


@given(
    body=st.binary() | st.lists(
        st.sampled_from([FILE, END, b"--edge", b"\r\n", b"--", b"-", part("x", b"y"), b"\r\n--edge",
                         b"Content-Disposition: form-data", b': "', b"\x00", b" "])
    ).map(b"".join),
    content_type=st.just(TYPE)
    | st.text(st.characters(max_codepoint=255))
    | st.text(st.characters(max_codepoint=255)).map("multipart/form-data; boundary={}".format),
)  # fmt: skip
@example(body=b"--edge--", content_type=TYPE)
@example(body=b"", content_type="")
def test_any_bytes_give_a_form_or_a_refusal(body: bytes, content_type: str) -> None:
    """Nothing but RequestError is ever raised."""
    try:
        form = parse_form(body, content_type)
    except RequestError as exc:
        assert exc.code is Code.BODY_INVALID  # noqa: PT017  (either outcome is good)
    else:
        assert form.file in body


@pytest.mark.parametrize("length", [1, 70])
def test_a_boundary_of_a_legal_length_is_taken(length: int) -> None:
    """1 to 70 characters, RFC 2046 section 5.1.1."""
    edge = b"e" * length
    body = (FILE + END).replace(b"edge", edge)
    assert (
        parse_form(body, f"multipart/form-data; boundary={edge.decode()}").file == b"\xff\xd8image"
    )


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + 71 * "e",
    ],
)
def test_a_boundary_of_another_length_is_refused(content_type: str) -> None:
    """Without a usable boundary there is no form."""
    body = (FILE + END).replace(b"edge", 71 * b"e")
    message = "the multipart boundary is missing or longer than 70 characters"
    assert message == refusal(body, content_type)


@pytest.mark.parametrize("separator", [";", '; x="\\";', ";a=1"])
def test_a_content_type_is_bounded(separator: str) -> None:
    """One of 30 KB would keep the event loop for 75 ms; 256 characters pass."""
    start = f"{TYPE}; x={separator}"
    assert parse_form(FILE + END, start.ljust(256, ";")).file == b"\xff\xd8image"
    assert refusal(FILE + END, start.ljust(257, ";")) == (
        "the Content-Type is longer than 256 characters"
    )


@pytest.mark.parametrize("content", [b"\r-", b"\r\n--edg", b"\r\n\r\n", b"\r", b"x"])
def test_contents_never_reach_the_parser(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """It takes the beginnings of delimiters one byte at a time: 20 MB of them would stop the event loop."""
    outlines: list[int] = []

    def parser(boundary: bytes, callbacks: Any) -> Any:
        made = MultipartParser(boundary, callbacks)
        write = made.write

        def count(data: bytes) -> int:
            outlines.append(len(data))
            return int(write(data))

        made.write = count  # type: ignore[method-assign]
        return made

    monkeypatch.setattr(multipart, "MultipartParser", parser)
    sent = content * 20_000
    assert parse_form(part("file", sent) + END, TYPE).file == sent
    assert len(outlines) == 1
    assert outlines[0] < 200


@pytest.mark.parametrize(
    "body", [b"\r\n" + FILE + END, FILE + END + b"epilogue", FILE + END + b"\r\n" + FILE]
)
def test_what_stands_around_a_form_is_no_part(body: bytes) -> None:
    """Some clients begin with a line break; RFC 2046 section 5.1.1 lets an epilogue follow."""
    assert parse_form(body, TYPE) == Form(file=b"\xff\xd8image", fields={})


@pytest.mark.parametrize("body", [FILE, FILE[:-2], FILE + b"--ed", b""])
def test_a_form_without_its_end_is_refused(body: bytes) -> None:
    """A cut upload must not be taken for a small image."""
    assert refusal(body) == "the multipart body ends before its closing boundary"


@pytest.mark.parametrize("body", [FILE + FILE + END, FILE + part("image", b"2") + END])
def test_two_files_are_refused(body: bytes) -> None:
    """Which one was meant is not guessed."""
    assert refusal(body) == "the form needs exactly one part named `file`, it has 2"


def test_no_file_is_refused() -> None:
    """A form of fields alone holds no image."""
    assert refusal(part("conf", b"0.5") + END) == (
        "the form needs exactly one part named `file`, it has 0"
    )


def test_a_field_given_twice_is_refused() -> None:
    """Also with the same value."""
    body = part("conf", b"1") + part("conf", b"1") + FILE + END
    assert refusal(body) == "a form field is given twice"


def test_parts_are_bounded() -> None:
    """32 parts pass, 33 do not."""
    fields = [part(f"f{number}", b"") for number in range(32)]
    assert len(parse_form(b"".join(fields[:31]) + FILE + END, TYPE).fields) == 31
    assert refusal(b"".join(fields) + FILE + END) == "the form has more than 32 parts"


def test_fields_are_bounded() -> None:
    """4096 bytes pass, one more does not."""
    taken = parse_form(part("note", b"n" * 4096) + FILE + END, TYPE)
    assert taken.fields == {"note": "n" * 4096}
    assert refusal(part("note", b"n" * 4097) + FILE + END) == (
        "a form field is longer than 4096 bytes"
    )


def test_headers_of_parts_are_bounded() -> None:
    """A name and value of 1024 bytes pass, one more does not."""
    fits = part("file", b"1", "X-Note: " + "n" * 1018) + END
    assert parse_form(fits, TYPE).file == b"1"
    assert refusal(part("file", b"1", "X-Note: " + "n" * 1019) + END) == (
        "a part's header is longer than 1024 bytes"
    )


def test_the_count_of_headers_of_a_part_is_bounded() -> None:
    """A part with very many headers is refused."""
    assert refusal(part("file", b"1", *[f"X-{n}: n" for n in range(100)]) + END) == (
        "the multipart body is malformed"
    )


def test_a_field_that_is_not_utf8_is_refused() -> None:
    """Text is UTF-8 or nothing."""
    assert refusal(part("note", b"\xff") + FILE + END) == "a form field is not UTF-8"


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Disposition: form-data",
        b'Content-Disposition: attachment; name="file"',
        b"Content-Type: image/jpeg",
        b'X-Content-Disposition: form-data; name="file"',
    ],
)
def test_a_part_without_a_form_name_is_refused(header: bytes) -> None:
    """Every part of a form says which field it is."""
    body = b"--edge\r\n" + header + b"\r\n\r\nbytes\r\n" + END
    assert refusal(body) == "a part has no form-data name"


def test_a_header_given_twice_is_refused() -> None:
    """Which of two names counts must not depend on which parser reads them."""
    again = 'content-disposition: form-data; name="file"'
    assert refusal(part("note", b"1", again) + END) == "a part's header is given twice"


@pytest.mark.parametrize(
    "body",
    [
        part("file", b"\r\n--edgeX") + END,
        part("file", b"\r\n--edge  ") + END,
        FILE + b"--edge",
        FILE + b"--edge-",
    ],
)
def test_a_delimiter_that_neither_starts_nor_ends_is_refused(body: bytes) -> None:
    """A body made of such delimiters would keep the parser busy for seconds."""
    assert refusal(body) == "the multipart body is malformed"


@pytest.mark.parametrize(
    "body",
    [
        b"no boundary at all",
        b"--other\r\n\r\n",
        b"--edge\r\nno colon\r\n\r\nx\r\n" + END,
        b"--edgeX",
    ],
)
def test_what_is_no_multipart_is_refused(body: bytes) -> None:
    """The parser's own words stay inside."""
    assert refusal(body) == "the multipart body is malformed"
