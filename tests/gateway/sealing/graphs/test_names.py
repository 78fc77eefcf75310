"""Fresh names, and looking for old ones."""

import random
from typing import Any

from gateway.sealing.graphs.names import FreshNames, names_in, names_left
from tests.gateway.sealing.graphs.conftest import small_detector


class ScriptedRandom(random.Random):
    """Spells the given eight characters, one name after the other."""

    def __init__(self, *names: str) -> None:
        super().__init__(0)
        self._names = list(names)

    def choice(self, seq: Any) -> Any:
        """The next name's first letter."""
        return self._names[0][0]

    def choices(self, population: Any, *_: Any, **__: Any) -> Any:
        """The rest of it."""
        return list(self._names.pop(0)[1:])


def test_a_class_name_of_hexadecimal_letters_never_comes_up() -> None:
    """A detector of faces has a class whose name eight hexadecimal digits can spell."""
    fresh = FreshNames(ScriptedRandom("a0face00", "a0facade"), avoid=["face", "much too long"])
    assert "a0facade" == fresh.take()


def test_no_name_comes_twice() -> None:
    """Two tensors of one name would be no valid model."""
    fresh = FreshNames(ScriptedRandom("a0000000", "a0000000", "b0000000"), avoid=[])
    assert ["a0000000", "b0000000"] == [fresh.take(), fresh.take()]


def test_words_of_the_format_and_numbers_are_no_names(onnx: Any) -> None:
    """They stay whatever is done, and tell nothing."""
    model = onnx.load_from_string(small_detector(onnx, outputs=("output0", "Relu", "123456")))
    onnx.helper.set_model_props(model, {"stride": "32", "names": "{0: 'part', 1: 'belt buckle'}"})
    found = names_in(model.SerializeToString())
    assert {"output0", "images", "part", "belt buckle", "names"} <= found
    assert not {"Relu", "123456"} & found


def test_names_are_found_wherever_they_stand() -> None:
    """Plain ones within text, and others byte by byte."""
    content = b"\x00\x01/model.0/conv\xff" + "Schlüssel".encode() + b"\x00"
    original = ["model.0", "Schlüssel", "conv", "Schraube", "absent"]
    assert ("Schlüssel", "conv", "model.0") == names_left(original, content)
