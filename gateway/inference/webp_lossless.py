"""How many prefix code groups a lossless WebP asks its decoder for, read without decoding its pixels.

Rules: a group is up to 20 KB of tables and 30 microseconds of work, and 20 bits of file are enough for one: 300 KB that
show one megapixel in one colour hold a decoder for two seconds and 360 MB. The number of groups stands behind the
transforms, whose small images are walked here; the walk is bounded in steps, whatever the bits say. What libwebp takes
is walked as libwebp walks it; what it would refuse is refused here or by it.
Source: RFC 9649 sections 3.4 to 3.8.
"""

# Encoders make one group of many tiles: libwebp looks at 2,600 tiles at most.
MAX_CODE_GROUPS = 2_048
# Bits and symbols of the small images. libwebp writes 50,000 for a frame of 1080p and 100,000 for one of 4K.
MAX_STEPS = 150_000

_PREDICTOR, _CROSS_COLOR, _SUBTRACT_GREEN, _COLOR_INDEXING = range(4)
_GREEN_LITERALS, _GREEN_LENGTHS = 256, 24
_ALPHABETS = (_GREEN_LITERALS + _GREEN_LENGTHS, 256, 256, 256, 40)
_MAX_CACHE_BITS = 11
_MAX_CODE_LENGTH = 15
_LENGTHS_ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
_DEFAULT_LENGTH = 8
# By symbol from 16 on: how many bits say how often the length is repeated, and from what number they count.
_REPEATS = {16: (2, 3), 17: (3, 3), 18: (7, 11)}
_WINDOW_BYTES = 8


def count_code_groups(data: bytes) -> int:
    """The number of prefix code groups of the content of a VP8L chunk.

    More than MAX_CODE_GROUPS also where the walk to that number is longer than MAX_STEPS. Raises ValueError for a
    stream that no decoder takes.
    """
    bits = _Bits(data)
    bits.read(8)  # the signature
    width, height = bits.read(14) + 1, bits.read(14) + 1
    bits.read(4)  # a hint about alpha, and the version
    try:
        return _count_after_transforms(bits, width, height)
    except _WalkTooLongError:
        return MAX_CODE_GROUPS + 1


def _count_after_transforms(bits: "_Bits", width: int, height: int) -> int:
    seen = set()
    while bits.read(1):
        kind = bits.read(2)
        if kind in seen:
            raise ValueError("a transform twice")
        seen.add(kind)
        if kind in (_PREDICTOR, _CROSS_COLOR):
            _largest_in_tiles(bits, width, height)
        elif kind == _COLOR_INDEXING:
            colors = bits.read(8) + 1
            _largest_value(bits, colors)
            # Two, four or eight indices share a pixel where there are few colours.
            width = -(-width >> (0 if colors > 16 else 1 if colors > 4 else 2 if colors > 2 else 3))
    _read_cache_bits(bits)
    return 1 + _largest_in_tiles(bits, width, height) if bits.read(1) else 1


def _largest_in_tiles(bits: "_Bits", width: int, height: int) -> int:
    tile_bits = bits.read(3) + 2
    return _largest_value(bits, -(-width >> tile_bits) * -(-height >> tile_bits))


def _largest_value(bits: "_Bits", pixels: int) -> int:
    """The largest number in red and green of a small image; repeated and cached pixels are those of literal ones."""
    green, red, blue, alpha, distance = _read_group(bits, _read_cache_bits(bits))
    first = green.table[0] >> 4
    if first < _GREEN_LITERALS and all(code.mask == 0 for code in (green, red, blue, alpha)):
        # One colour, which takes no bits, however many pixels have it.
        return red.table[0] >> 4 << 8 | first
    largest = 0
    while pixels > 0:
        symbol = bits.read_symbol(green)
        if symbol < _GREEN_LITERALS:
            largest = max(largest, bits.read_symbol(red) << 8 | symbol)
            bits.read_symbol(blue)
            bits.read_symbol(alpha)
            pixels -= 1
        elif symbol < _GREEN_LITERALS + _GREEN_LENGTHS:
            pixels -= _read_prefixed(bits, symbol - _GREEN_LITERALS)
            _read_prefixed(bits, bits.read_symbol(distance))
        else:
            pixels -= 1
    return largest


def _read_prefixed(bits: "_Bits", prefix: int) -> int:
    """A length or a distance (RFC 9649 section 4.2.2)."""
    if prefix < 4:
        return prefix + 1
    extra = (prefix - 2) >> 1
    return ((2 + (prefix & 1)) << extra) + bits.read(extra) + 1


def _read_cache_bits(bits: "_Bits") -> int:
    if not bits.read(1):
        return 0
    cache_bits = bits.read(4)
    if not 1 <= cache_bits <= _MAX_CACHE_BITS:
        raise ValueError("a colour cache of this size")
    return cache_bits


def _read_group(bits: "_Bits", cache_bits: int) -> list["_Code"]:
    green = _ALPHABETS[0] + (1 << cache_bits if cache_bits else 0)
    return [_Code(_read_lengths(bits, symbols)) for symbols in (green, *_ALPHABETS[1:])]


def _read_lengths(bits: "_Bits", symbols: int) -> list[int]:
    """The code length of each symbol of an alphabet, 0 for those that do not occur."""
    lengths = [0] * symbols
    if bits.read(1):
        has_two = bits.read(1)
        first = bits.read(8 if bits.read(1) else 1)
        for symbol in (first, bits.read(8)) if has_two else (first,):
            # libwebp passes over those outside their alphabet.
            lengths[symbol : symbol + 1] = [1] * (symbol < symbols)
        return lengths
    of_lengths = [0] * len(_LENGTHS_ORDER)
    for symbol in _LENGTHS_ORDER[: bits.read(4) + 4]:
        of_lengths[symbol] = bits.read(3)
    return _read_coded_lengths(bits, _Code(of_lengths), lengths)


def _read_coded_lengths(bits: "_Bits", code: "_Code", lengths: list[int]) -> list[int]:
    symbols = len(lengths)
    left = 2 + bits.read(2 + 2 * bits.read(3)) if bits.read(1) else symbols
    if left > symbols:
        raise ValueError("more lengths than symbols")
    position, before = 0, _DEFAULT_LENGTH
    while position < symbols and left > 0:
        left -= 1
        symbol = bits.read_symbol(code)
        if symbol < 16:
            lengths[position] = symbol
            before = symbol or before
            position += 1
            continue
        extra, least = _REPEATS[symbol]
        count = least + bits.read(extra)
        if position + count > symbols:
            raise ValueError("more lengths than symbols")
        if symbol == 16:
            lengths[position : position + count] = [before] * count
        position += count
    return lengths


class _WalkTooLongError(Exception):
    """The steps are spent."""


class _Bits:
    """Bits in the order of RFC 9649, lowest first; zeros behind the end. Every bit is a step."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0
        self._window = 0
        self._held = 0
        self._steps = MAX_STEPS

    def read(self, count: int) -> int:
        """The next bits as a number."""
        if self._held < count:
            self._refill()
        value = self._window & ((1 << count) - 1)
        self._take(count)
        return value

    def read_symbol(self, code: "_Code") -> int:
        """The next symbol of a code."""
        if self._held < _MAX_CODE_LENGTH:
            self._refill()
        entry = code.table[self._window & code.mask]
        # A symbol without bits is a step as well: a file may have two million of them for nothing.
        self._take(entry & 15)
        self._steps -= 1
        return entry >> 4

    def _take(self, count: int) -> None:
        self._steps -= count
        if self._steps < 0:
            raise _WalkTooLongError
        self._window >>= count
        self._held -= count

    def _refill(self) -> None:
        more = self._data[self._offset : self._offset + _WINDOW_BYTES]
        self._window |= int.from_bytes(more, "little") << self._held
        self._offset += _WINDOW_BYTES
        self._held += 8 * _WINDOW_BYTES


class _Code:
    """A canonical prefix code as a table of all the bits that may come next: symbol << 4 | its length.

    One with a single symbol takes no bits, whatever its length (as in libwebp).
    """

    def __init__(self, lengths: list[int]) -> None:
        symbols = [symbol for symbol, length in enumerate(lengths) if length]
        longest = max(lengths) if len(symbols) != 1 else 0
        self.mask = (1 << longest) - 1
        self.table = [symbol << 4 for symbol in symbols[:1]] * (1 << longest)
        if len(symbols) != 1:
            self._fill(lengths, sorted(symbols, key=lengths.__getitem__), longest)

    def _fill(self, lengths: list[int], symbols: list[int], longest: int) -> None:
        code = length = 0
        for symbol in symbols:
            code <<= lengths[symbol] - length
            length = lengths[symbol]
            if code >> length:
                raise ValueError("a code with overlaps")
            # Written from its highest bit on, and read from the lowest.
            start = int(f"{code:0{length}b}"[::-1], 2)
            self.table[start :: 1 << length] = [symbol << 4 | length] * (1 << (longest - length))
            code += 1
        if code != 1 << length:
            raise ValueError("a code with gaps")
