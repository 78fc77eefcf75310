"""What lies under the parts and what looks at them: the belt with its dirt, the lamp, the camera.

Rules:
- Pure: numpy and OpenCV only; every random choice comes from the generator passed in.
- Frames are linear light, float32 (HEIGHT, WIDTH, 3) BGR, about 0..1, until the sensor reads them.

It does not place parts and knows no labels; that is scenes.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

# The scripts of this folder run by path, which makes the folder itself the place to import from;
# type checkers see it from the repository's root.
if TYPE_CHECKING:
    from examples.conveyor.parts import SUBPIXEL_BITS, Bytes, Floats, Light
else:
    from parts import SUBPIXEL_BITS, Bytes, Floats, Light

WIDTH, HEIGHT = 640, 480  # pixels

# BGR in linear light: black rubber, green PVC, blue food-grade, grey felt.
BELT_COLOURS = ((0.05, 0.05, 0.05), (0.075, 0.10, 0.055), (0.14, 0.09, 0.055), (0.13, 0.13, 0.13))


@dataclass(frozen=True, slots=True)
class Camera:
    """How the sensor records a frame.

    blur_pixels: standard deviation of the lens blur; motion_pixels: travel during the exposure;
    noise_ratio: standard deviation of the noise over full scale; jpeg_quality: 1..100.
    """

    blur_pixels: float
    motion_pixels: int
    noise_ratio: float
    jpeg_quality: int


def lamp(rng: np.random.Generator) -> Light:
    """A lamp somewhere above the belt, from steep to slanting."""
    around, slant = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.95)
    direction = (
        float(np.sin(slant) * np.cos(around)),
        float(np.sin(slant) * np.sin(around)),
        float(np.cos(slant)),
    )
    return Light(direction, ambient=float(rng.uniform(0.3, 0.55)))


def camera(rng: np.random.Generator) -> Camera:
    """A camera in daily use: mostly sharp, a little noisy, JPEG of varied quality."""
    return Camera(
        blur_pixels=float(rng.uniform(0.4, 1.1)),
        motion_pixels=int(rng.choice([1, 1, 1, 2, 3])),
        noise_ratio=float(rng.uniform(0.006, 0.022)),
        jpeg_quality=int(rng.integers(60, 96)),
    )


def belt(rng: np.random.Generator) -> Floats:
    """An empty stretch of belt with its texture, stains and litter, evenly lit."""
    tone = _texture(rng)
    for _ in range(int(rng.poisson(1.2))):
        tone *= _stain(rng)
    colour = BELT_COLOURS[rng.integers(len(BELT_COLOURS))]
    shade = rng.uniform(0.7, 1.4)
    frame = np.asarray(cv2.merge([tone * np.float32(c * shade) for c in colour]), np.float32)
    for _ in range(int(rng.poisson(1.5))):
        _draw_litter(frame, rng)
    if rng.random() < 0.45:
        _draw_rails(frame, rng)
    return frame


def light_field(rng: np.random.Generator, light: Light) -> Floats:
    """What the lamp gives each pixel: uneven light, vignette, colour temperature, soft shadows.

    float32 (HEIGHT, WIDTH, 3), about 0.3..1.8.
    """
    rows, columns = np.mgrid[-1:1:60j, -1:1:80j].astype(np.float32)
    x, y, _ = light.direction
    fall = 1 + rng.uniform(0.05, 0.35) * (x * columns + y * rows)
    fall -= rng.uniform(0.05, 0.18) * (rows**2 + columns**2)
    if rng.random() < 0.3:
        fall *= _beam_shadow(rng, rows, columns)
    strength = rng.uniform(0.7, 1.3)
    warmth = rng.normal(0, 0.09)
    gains = np.array([1 - warmth, 1 + rng.normal(0, 0.02), 1 + warmth]) * strength
    field = (fall[:, :, None] * gains).astype(np.float32)
    return np.asarray(cv2.resize(field, (WIDTH, HEIGHT)), np.float32)


def record(frame: Floats, device: Camera, rng: np.random.Generator, *, noise_gain: float) -> Bytes:
    """Read a frame out as the camera would: uint8 (HEIGHT, WIDTH, 3) BGR, gamma 2.

    Shot noise grows with the square root of the light, so after the square root of the gamma it is
    the same everywhere, and a darker frame is the noisier one.
    """
    shown = cv2.GaussianBlur(frame, (0, 0), device.blur_pixels)
    if device.motion_pixels > 1:
        shown = cv2.blur(shown, (device.motion_pixels, 1))
    cv2.sqrt(np.maximum(shown, 0, out=shown), shown)
    noise_ratio = np.float32(device.noise_ratio * noise_gain)
    grain = rng.standard_normal((HEIGHT, WIDTH), np.float32) * noise_ratio
    tint = rng.standard_normal((HEIGHT // 3, WIDTH // 3, 3), np.float32) * noise_ratio
    cv2.add(shown, cv2.cvtColor(grain, cv2.COLOR_GRAY2BGR), shown)
    cv2.add(shown, cv2.resize(tint, (WIDTH, HEIGHT)), shown)
    np.maximum(shown, 0, out=shown)
    return np.asarray(cv2.convertScaleAbs(shown, alpha=255), np.uint8)


def _texture(rng: np.random.Generator) -> Floats:
    """Brightness of clean belt around 1: grain, wear along the travel, and a moulded pattern."""
    coarse = rng.standard_normal((HEIGHT // 16, WIDTH // 32), np.float32)
    fine = rng.standard_normal((HEIGHT // 2, WIDTH // 2), np.float32)
    tone = 1 + cv2.resize(coarse, (WIDTH, HEIGHT)) * np.float32(rng.uniform(0.03, 0.10))
    tone += cv2.resize(fine, (WIDTH, HEIGHT)) * np.float32(rng.uniform(0.05, 0.20))
    wear = cv2.GaussianBlur(rng.standard_normal((HEIGHT, 1), np.float32), (1, 0), 0, sigmaY=3)
    tone += wear * np.float32(rng.uniform(0.05, 0.3))
    pitch = rng.uniform(5, 16)
    across = np.sin(np.arange(WIDTH, dtype=np.float32) * np.float32(2 * np.pi / pitch))
    down = np.sin(np.arange(HEIGHT, dtype=np.float32) * np.float32(2 * np.pi / pitch))
    depth = np.float32(rng.uniform(0.02, 0.16))
    match rng.integers(3):
        case 0:
            tone += depth * across[None, :]
        case 1:
            tone += depth * across[None, :] * down[:, None]
        case _:
            pass
    return np.asarray(np.maximum(tone, np.float32(0.1), out=tone), np.float32)


def _beam_shadow(rng: np.random.Generator, rows: Floats, columns: Floats) -> Floats:
    """The soft shadow of something overhead: a factor per point of the coarse light field."""
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.9, 0.9)
    far = np.abs(columns * np.cos(angle) + rows * np.sin(angle) - offset)
    edge = np.clip((far - rng.uniform(0.1, 0.3)) / rng.uniform(0.05, 0.25), 0, 1)
    return np.asarray(1 - rng.uniform(0.25, 0.5) * (1 - edge), np.float32)


def _stain(rng: np.random.Generator) -> Floats:
    """An oil stain: a factor below 1 inside a ragged blob, float32 (HEIGHT, WIDTH)."""
    turn = np.arange(24) * (2 * np.pi / 24)
    bumps = rng.standard_normal(24)
    bumps = np.roll(bumps, 1) + 2 * bumps + np.roll(bumps, -1)
    radius = rng.uniform(18, 75) * np.maximum(1 + 0.10 * bumps, 0.3)
    points = np.stack([radius * np.cos(turn) * rng.uniform(0.8, 1.6), radius * np.sin(turn)], 1)
    points += (rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT))
    blob = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
    cv2.fillPoly(blob, [(points / 2).astype(np.int32)], (255,))
    soft = cv2.GaussianBlur(blob, (0, 0), rng.uniform(1.5, 5))
    factor = 1 - np.asarray(soft, np.float32) * np.float32(rng.uniform(0.3, 0.6) / 255)
    return np.asarray(cv2.resize(factor, (WIDTH, HEIGHT)), np.float32)


def _draw_litter(frame: Floats, rng: np.random.Generator) -> None:
    """Draw one distractor into the frame: a scrap of paper, a curl of swarf, or a chalk mark."""
    x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
    scale = 1 << SUBPIXEL_BITS
    tone = rng.uniform(0.12, 0.5)
    colour = (tone * rng.uniform(0.6, 1), tone * rng.uniform(0.8, 1), tone)
    kind = rng.integers(3)
    if kind == 0:
        corners = np.sort(rng.uniform(0, 2 * np.pi, 5))
        reach = rng.uniform(6, 16)
        scrap = np.stack([x + reach * np.cos(corners), y + reach * np.sin(corners)], 1)
        fixed = np.round(scrap * scale).astype(np.int32)
        cv2.fillPoly(frame, [fixed], colour, cv2.LINE_8, SUBPIXEL_BITS)
        return
    turns = np.linspace(0, rng.uniform(2, 9) if kind == 1 else 0.3, 24)
    bend = rng.uniform(5, 11) if kind == 1 else rng.uniform(60, 200)
    drift = np.linspace(0, rng.uniform(10, 40), 24)
    curl = np.stack([x + drift + bend * np.cos(turns), y + bend * np.sin(turns)], 1)
    fixed = np.round(curl * scale).astype(np.int32)
    thickness = 1 if kind == 1 else int(rng.integers(2, 4))
    cv2.polylines(frame, [fixed], False, colour, thickness, cv2.LINE_8, SUBPIXEL_BITS)  # noqa: FBT003 - OpenCV's own signature


def _draw_rails(frame: Floats, rng: np.random.Generator) -> None:
    """Draw the metal guide rails along the top and bottom edge of the picture."""
    steel = rng.uniform(0.12, 0.4)
    for bottom in (False, True):
        thick = int(rng.integers(8, 34))
        streaks = 1 + 0.12 * rng.standard_normal((thick, 1, 1), np.float32)
        rows = slice(HEIGHT - thick, HEIGHT) if bottom else slice(0, thick)
        edge = slice(HEIGHT - thick - 9, HEIGHT - thick) if bottom else slice(thick, thick + 9)
        frame[rows] = steel * streaks * np.array([1.03, 1.0, 0.97], np.float32)
        frame[edge] *= np.float32(0.55)
