"""The traffic kinds differ from clean traffic in what they claim, and in nothing else."""

import functools
import itertools
from pathlib import Path

import cv2
import httpx
import numpy as np
import numpy.typing as npt
import pytest

from examples.conveyor.scenes import draw_scene, scene_rng
from examples.conveyor.traffic import (
    KINDS,
    frames,
    main,
    open_client,
    scenes,
    send,
    smear,
    smudges,
)

Pictures = list[npt.NDArray[np.uint8]]


@functools.cache
def pictures(kind: str, count: int = 4) -> Pictures:
    """The first frames of a kind with seed 0."""
    return [scene.image for scene in itertools.islice(scenes(kind, 0), count)]


def brightness(images: Pictures) -> float:
    """Mean grey level, 0..255."""
    return float(np.mean([image.mean() for image in images]))


def sharpness(images: Pictures) -> float:
    """Variance of the Laplacian after a blur that removes the sensor's noise."""
    greys = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in images]
    smooth = [cv2.GaussianBlur(grey, (0, 0), 1.5) for grey in greys]
    return float(np.mean([cv2.Laplacian(grey, cv2.CV_64F).var() for grey in smooth]))


def test_there_are_four_kinds() -> None:
    """Clean comes first, then the three kinds of drift."""
    assert KINDS == ("clean", "dirty_lens", "dim_light", "new_part")


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_the_same_frames(kind: str) -> None:
    """A kind and a seed determine every byte; another seed gives other frames."""
    first, second = next(frames(kind, 5)), next(frames(kind, 5))
    assert first == second
    assert next(frames(kind, 6)) != first


def test_frames_are_jpeg_files() -> None:
    """Each frame starts and ends as a JPEG does."""
    body = next(frames("clean", 0))
    assert body.startswith(b"\xff\xd8\xff")
    assert body.endswith(b"\xff\xd9")


def test_frames_follow_each_other_independently() -> None:
    """No two frames of a seed are the same."""
    assert len(set(itertools.islice(frames("clean", 0), 4))) == 4


def test_clean_is_the_training_distribution() -> None:
    """A clean frame is a plain scene of its own stream, with nothing changed."""
    plain = draw_scene(scene_rng("traffic", 0, 0))
    assert np.array_equal(plain.image, pictures("clean", 1)[0])


def test_dirty_lens_is_blurred() -> None:
    """Smudges take away at least a fifth of the sharpness but hardly any light."""
    clean, dirty = pictures("clean"), pictures("dirty_lens")
    assert sharpness(dirty) < 0.8 * sharpness(clean)
    assert brightness(dirty) > 0.9 * brightness(clean)


def test_dirty_lens_leaves_the_ground_truth_alone() -> None:
    """The parts lie where they lie, however dirty the lens is."""
    clean, dirty = next(scenes("clean", 2)), next(scenes("dirty_lens", 2))
    assert clean.boxes.tolist() == dirty.boxes.tolist()


def test_smudges_stay_where_they_are() -> None:
    """Every frame of a seed is dirty in the same places and clean in the same places."""
    changed = [
        cv2.blur(np.abs(clean.astype(np.float32) - dirty).mean(axis=2), (21, 21)) > 6
        for clean, dirty in zip(pictures("clean"), pictures("dirty_lens"), strict=True)
    ]
    untouched = ~np.any(changed, axis=0)
    assert 0.1 < untouched.mean() < 0.9


def test_smear_leaves_clean_glass_alone() -> None:
    """Where there is no dirt, the light passes unchanged."""
    frame = np.random.default_rng(0).random((480, 640, 3), np.float32)
    assert np.array_equal(smear(frame, np.zeros((480, 640), np.float32)), frame)


def test_smudges_are_shares() -> None:
    """A smudge map covers the frame with values from 0 to 1, and some of it is clean."""
    dirt = smudges(np.random.default_rng(0))
    assert dirt.shape == (480, 640)
    assert dirt.min() == 0
    assert 0.5 < dirt.max() <= 1


def test_dim_light_is_darker() -> None:
    """A quarter of the light is half the grey level under gamma 2."""
    ratio = brightness(pictures("dim_light")) / brightness(pictures("clean"))
    assert 0.45 < ratio < 0.55


def test_new_part_replaces_known_ones() -> None:
    """Fewer known parts remain, and the light stays as it was."""
    known = [
        sum(len(s.boxes) for s in itertools.islice(scenes(k, 0), 6)) for k in ("clean", "new_part")
    ]
    assert known[1] < 0.75 * known[0]
    assert 0.95 < brightness(pictures("new_part")) / brightness(pictures("clean")) < 1.05


def test_unknown_kind_is_refused() -> None:
    """The error lists the kinds there are."""
    with pytest.raises(ValueError, match="dirty_lens"):
        next(scenes("earthquake", 0))


def test_send_counts_answers_by_status() -> None:
    """Each body is posted as image/jpeg, and refusals are counted, not raised."""
    seen: list[tuple[str, bytes]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers["content-type"], request.content))
        return httpx.Response(200 if len(seen) < 3 else 429)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        answers = send(client, "https://gateway/predict", [b"a", b"b", b"c"], rate_per_second=None)
    assert answers == {"200": 2, "429": 1}
    assert seen == [("image/jpeg", b"a"), ("image/jpeg", b"b"), ("image/jpeg", b"c")]


def test_send_counts_connections_that_fail() -> None:
    """A gateway that cannot be reached is counted under the error's name."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with httpx.Client(transport=httpx.MockTransport(refuse)) as client:
        answers = send(client, "https://gateway/predict", [b"a"], rate_per_second=1000)
    assert answers == {"ConnectError": 1}


def test_client_presents_the_token(tmp_path: Path) -> None:
    """The token file's content, without its line end, is the bearer token."""
    token_file = tmp_path / "token"
    token_file.write_text("abc.def.ghi\n", "ascii")
    with open_client(token_file, None) as client:
        assert client.headers["Authorization"] == "Bearer abc.def.ghi"


def test_command_writes_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --out the frames land in the folder and nothing is sent."""
    assert main(["--kind", "dim_light", "--count", "2", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.jpg", "00001.jpg"]
    assert "wrote 2 frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--url"),
        (["--url", "https://localhost/", "--out", "frames"], "--url"),
        (["--out", "frames", "--rate-per-second", "0"], "more than 0"),
        (["--url", "https://localhost/", "--token-file", "absent"], "there is no file absent"),
    ],
)
def test_command_refuses_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each mistake is named before anything is rendered or sent."""
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
