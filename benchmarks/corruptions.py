"""What goes wrong between a scene and its file: ten corruptions of photographs, each at severity 1, 3 and 5.

Rules: pure; uint8 (h, w, 3) BGR in and out, of the same shape; every random choice comes from the generator passed in.
Parameters are those of ImageNet-C where it has the corruption (Hendrycks and Dietterich, "Benchmarking neural network
robustness to common corruptions and perturbations", ICLR 2019, and its make_imagenet_c.py); COCO-C (Michaelis et al.,
arXiv 1907.07484) takes the same for photographs of this size. Its glass blur, zoom blur, snow, frost and the like say
little about cameras that stand still. It has no darkness, no cast of colour and no loss of resolution but a mosaic:
those are ours, in the units that a photographer would state.
"""

from collections.abc import Callable
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rng = np.random.Generator

SEVERITIES = (1, 3, 5)
_GAMMA = 2.2  # of sRGB, nearly


class Corruption(StrEnum):
    """What went wrong."""

    JPEG = "jpeg"
    NOISE = "noise"
    DEFOCUS = "defocus"
    MOTION = "motion"
    BRIGHTNESS = "brightness"
    CONTRAST = "contrast"
    DARKNESS = "darkness"
    FOG = "fog"
    COLOUR_CAST = "colour_cast"
    RESOLUTION = "resolution"


JPEG_QUALITIES = {1: 25, 3: 15, 5: 7}
_NOISE_DEVIATIONS = {1: 0.08, 3: 0.18, 5: 0.38}  # of full scale
_DEFOCUS = {1: (3, 0.1), 3: (6, 0.5), 5: (10, 0.5)}  # radius and softening, pixels
_MOTION = {1: (10, 3.0), 3: (15, 8.0), 5: (20, 15.0)}  # radius and deviation, pixels
_BRIGHTNESS = {1: 0.1, 3: 0.3, 5: 0.5}  # added to the value of HSV, 0..1
_CONTRAST = {1: 0.4, 3: 0.2, 5: 0.05}  # what is left of the distance to each channel's mean
_FOG = {1: (1.5, 2.0), 3: (2.5, 1.7), 5: (3.0, 1.4)}  # density, decay of its finer detail
_DARKNESS_STOPS = {1: 1.0, 3: 2.5, 5: 4.0}  # light lost before the camera encodes it
# Blue, green and red of a camera balanced for 6500 K under light of 5000, 4000 and 2850 K (a grey day's balance in
# the afternoon, under a fluorescent tube, under a light bulb), luma kept: the Planckian locus of Kim et al. (US patent
# 7024034) in sRGB.
_CAST_GAINS = {1: (0.870, 0.989, 1.071), 3: (0.741, 0.973, 1.151), 5: (0.514, 0.936, 1.312)}
_RESOLUTION = {1: 0.6, 3: 0.4, 5: 0.25}  # of width and height, those of ImageNet-C's mosaic


def corrupt(image: Image, corruption: Corruption, *, severity: int, rng: Rng) -> Image:
    """The image with one corruption; severity: one of SEVERITIES."""
    return _CORRUPTIONS[corruption](image, severity, rng)


def jpeg_bytes(image: Image, quality: int) -> bytes:
    """The image as a JPEG file; quality: 1..100."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _jpeg(image: Image, severity: int, _rng: Rng) -> Image:
    body = jpeg_bytes(image, JPEG_QUALITIES[severity])
    decoded = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("internal: OpenCV cannot read the JPEG that it wrote")
    return _bytes_of(decoded)


def _noise(image: Image, severity: int, rng: Rng) -> Image:
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(_NOISE_DEVIATIONS[severity])
    return _image(_floats(image) + noise)


def _defocus(image: Image, severity: int, _rng: Rng) -> Image:
    radius, softening = _DEFOCUS[severity]
    reach = max(8, radius)
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float32)
    side = 3 if radius <= 8 else 5
    kernel = cv2.GaussianBlur(disk / disk.sum(), (side, side), sigmaX=softening)
    return _filtered(image, kernel)


def _motion(image: Image, severity: int, rng: Rng) -> Image:
    # A one-sided Gaussian along a line, as ImageMagick draws it.
    radius, deviation = _MOTION[severity]
    angle = np.deg2rad(rng.uniform(-45, 45))
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    columns = np.rint(steps * np.cos(angle)).astype(int)
    rows = np.rint(steps * np.sin(angle)).astype(int)
    kernel = np.zeros((4 * radius + 1, 4 * radius + 1))
    np.add.at(kernel, (rows + 2 * radius, columns + 2 * radius), weights)
    return _filtered(image, kernel / kernel.sum())


def _brightness(image: Image, severity: int, _rng: Rng) -> Image:
    hsv = cv2.cvtColor(_floats(image), cv2.COLOR_BGR2HSV)
    hsv[..., 2] = np.clip(hsv[..., 2] + _BRIGHTNESS[severity], 0, 1)
    return _image(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))


def _contrast(image: Image, severity: int, _rng: Rng) -> Image:
    floats = _floats(image)
    means = floats.mean(axis=(0, 1))
    return _image((floats - means) * np.float32(_CONTRAST[severity]) + means)


def _darkness(image: Image, severity: int, _rng: Rng) -> Image:
    gain = 2 ** (-_DARKNESS_STOPS[severity] / _GAMMA)
    return _image(_floats(image) * np.float32(gain))


def _fog(image: Image, severity: int, rng: Rng) -> Image:
    density, decay = _FOG[severity]
    height, width = image.shape[:2]
    haze = plasma(max(height, width), decay=decay, rng=rng)[:height, :width, None]
    floats = _floats(image)
    brightest = floats.max()
    return _image((floats + density * haze) * brightest / (brightest + density))


def _colour_cast(image: Image, severity: int, _rng: Rng) -> Image:
    return _image(_floats(image) * np.array(_CAST_GAINS[severity], np.float32))


def _resolution(image: Image, severity: int, _rng: Rng) -> Image:
    height, width = image.shape[:2]
    ratio = _RESOLUTION[severity]
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return _bytes_of(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


_CORRUPTIONS: dict[Corruption, Callable[[Image, int, Rng], Image]] = {
    Corruption.JPEG: _jpeg,
    Corruption.NOISE: _noise,
    Corruption.DEFOCUS: _defocus,
    Corruption.MOTION: _motion,
    Corruption.BRIGHTNESS: _brightness,
    Corruption.CONTRAST: _contrast,
    Corruption.DARKNESS: _darkness,
    Corruption.FOG: _fog,
    Corruption.COLOUR_CAST: _colour_cast,
    Corruption.RESOLUTION: _resolution,
}


def plasma(side: int, *, decay: float, rng: Rng) -> Floats:
    """A cloud: float32, square, at least `side` pixels wide, 0..1.

    decay: > 1, how much weaker each halving of the scale is. Source: the diamond-square algorithm (Fournier, Fussell
    and Carpenter, CACM 25(6), 1982) on a torus, as make_imagenet_c.py has it.
    """
    size = 1 << max(1, (side - 1).bit_length())
    cloud = np.zeros((size, size), np.float64)
    step, wobble = size, 100.0
    while step >= 2:
        half = step // 2
        corners = cloud[::step, ::step]
        around = corners + np.roll(corners, -1, axis=0)
        cloud[half::step, half::step] = _wobbled(around + np.roll(around, -1, axis=1), wobble, rng)
        centres = cloud[half::step, half::step]
        beside = centres + np.roll(centres, 1, axis=0) + corners + np.roll(corners, -1, axis=1)
        cloud[::step, half::step] = _wobbled(beside, wobble, rng)
        above = centres + np.roll(centres, 1, axis=1) + corners + np.roll(corners, -1, axis=0)
        cloud[half::step, ::step] = _wobbled(above, wobble, rng)
        step, wobble = half, wobble / decay
    cloud -= cloud.min()
    scaled: Floats = (cloud / cloud.max()).astype(np.float32)
    return scaled


def _wobbled(sums: NDArray[np.float64], wobble: float, rng: Rng) -> NDArray[np.float64]:
    return sums / 4 + wobble * rng.uniform(-1, 1, sums.shape)


def _filtered(image: Image, kernel: NDArray[np.floating]) -> Image:
    # A filter correlates; the kernel is turned so that it convolves. The border is repeated: black would be a new edge.
    turned = np.ascontiguousarray(kernel[::-1, ::-1], np.float32)
    return _bytes_of(cv2.filter2D(image, -1, turned, borderType=cv2.BORDER_REPLICATE))


def _floats(image: Image) -> Floats:
    return image.astype(np.float32) / np.float32(255)


def _image(floats: NDArray[np.generic]) -> Image:
    return (np.clip(floats.astype(np.float32), 0, 1) * 255).round().astype(np.uint8)


def _bytes_of(array: NDArray[np.generic]) -> Image:
    # OpenCV's stubs lose the type of the pixels.
    return array.astype(np.uint8, copy=False)
