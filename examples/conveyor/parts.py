"""Metal parts seen from above: outlines, shading and the defects on their surface.

Rules:
- Pure: numpy and OpenCV only; every random choice comes from the generator passed in.
- Lengths are pixels of the frame, angles radians, colours BGR in 0..1 (float32).
- An outline is drawn in units of the part's half extent and scaled by the caller.

It does not know about belts, cameras or labels; that is scenes.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

SUBPIXEL_BITS = 4  # OpenCV takes polygon corners in fixed point with this many fractional bits
# BGR albedo of the finishes a part can have.
FINISHES: dict[str, tuple[float, float, float]] = {
    "steel": (0.56, 0.55, 0.54),
    "zinc": (0.70, 0.68, 0.64),
    "brass": (0.34, 0.56, 0.70),
    "black_oxide": (0.24, 0.23, 0.23),
}


@dataclass(frozen=True, slots=True)
class Outline:
    """The shape of a part in units of its half extent, x right and y down.

    rings: float32 (k, 2) closed polygons; a point inside an odd number of rings is metal.
    bevel_ratio: width of the rounded rim over the half extent.
    thread_from: x from which on the part is threaded, or None.
    """

    rings: tuple[Floats, ...]
    bevel_ratio: float
    thread_from: float | None = None


@dataclass(frozen=True, slots=True)
class Light:
    """One directional lamp above the belt.

    direction: unit vector to the lamp (x right, y down, z up to the camera).
    ambient: share of the light that comes from everywhere, 0..1.
    """

    direction: tuple[float, float, float]
    ambient: float


@dataclass(frozen=True, slots=True)
class Sprite:
    """A rendered part, ready to be laid over a frame.

    colour: float32 (s, s, 3) BGR 0..1; alpha: float32 (s, s) 0..1, both with the part in the centre.
    defects: name -> bool (s, s), the pixels a defect covers; always inside the part.
    """

    colour: Floats
    alpha: Floats
    defects: dict[str, npt.NDArray[np.bool_]]


def circle(radius: float, x: float = 0.0, y: float = 0.0, corners: int = 40) -> Floats:
    """A regular polygon: float32 (corners, 2)."""
    turn = np.arange(corners) * (2 * np.pi / corners)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1).astype(
        np.float32
    )


def polygon(*points: tuple[float, float]) -> Floats:
    """The corners as float32 (k, 2)."""
    return np.array(points, np.float32)


def bolt(rng: np.random.Generator) -> Outline:
    """A hexagon bolt lying on its side, head to the left."""
    head = rng.uniform(0.34, 0.42)
    shaft = head * rng.uniform(0.48, 0.56)
    neck = -1 + rng.uniform(0.30, 0.38)
    body = polygon(
        (-1, -head * 0.8), (-0.95, -head), (neck, -head), (neck, -shaft), (0.95, -shaft),
        (1, -shaft * 0.7), (1, shaft * 0.7), (0.95, shaft), (neck, shaft), (neck, head),
        (-0.95, head), (-1, head * 0.8),
    )  # fmt: skip
    return Outline((body,), bevel_ratio=shaft, thread_from=rng.uniform(-0.35, 0.1))


def nut(rng: np.random.Generator) -> Outline:
    """A hexagon nut lying flat."""
    return Outline((circle(1, corners=6), circle(rng.uniform(0.46, 0.54))), bevel_ratio=0.16)


def washer(rng: np.random.Generator) -> Outline:
    """A flat ring."""
    return Outline((circle(1), circle(rng.uniform(0.46, 0.60))), bevel_ratio=0.07)


def gear(rng: np.random.Generator) -> Outline:
    """A spur gear with a bore and, sometimes, a ring of lightening holes."""
    teeth = int(rng.integers(13, 20))
    turn = np.arange(teeth * 4) * (2 * np.pi / (teeth * 4))
    radius = np.tile([1.0, 1.0, 0.82, 0.82], teeth)
    rim = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1).astype(np.float32)
    rings = [rim, circle(rng.uniform(0.16, 0.26))]
    if rng.random() < 0.4:
        spokes = int(rng.integers(4, 7))
        around = np.arange(spokes) * (2 * np.pi / spokes)
        rings += [circle(0.11, 0.52 * np.cos(a), 0.52 * np.sin(a), 20) for a in around]
    return Outline(tuple(rings), bevel_ratio=0.08)


def bracket(rng: np.random.Generator) -> Outline:
    """A flat L-shaped mounting bracket with a hole in each arm's end."""
    arm = rng.uniform(0.46, 0.58)
    reach = rng.uniform(0.75, 1.0)
    cut = 0.12
    body = polygon(
        (-1, -reach + cut), (-1 + cut, -reach), (-1 + arm - cut, -reach), (-1 + arm, -reach + cut),
        (-1 + arm, reach - arm), (1 - cut, reach - arm), (1, reach - arm + cut), (1, reach - cut),
        (1 - cut, reach), (-1 + cut, reach), (-1, reach - cut),
    )  # fmt: skip
    half = arm / 2
    holes = (
        circle(0.13, -1 + half, -reach + half + 0.06),
        circle(0.13, 1 - half - 0.06, reach - half),
    )
    return Outline((body, *holes), bevel_ratio=0.09)


def flange(rng: np.random.Generator) -> Outline:
    """A rounded two-hole flange: the part type that no reference scene contains."""
    waist, ear = rng.uniform(0.52, 0.62), rng.uniform(0.22, 0.28)
    ears = circle(ear, x=-1 + ear), circle(ear, x=1 - ear)
    hull = cv2.convexHull(np.concatenate([circle(waist), *ears]))
    rim = np.asarray(hull, np.float32).reshape(-1, 2)
    holes = (circle(0.11, -1 + ear, 0, 20), circle(0.11, 1 - ear, 0, 20))
    return Outline((rim, circle(waist * 0.5), *holes), bevel_ratio=0.09)


SHAPES: dict[str, Callable[[np.random.Generator], Outline]] = {
    "bolt": bolt,
    "nut": nut,
    "washer": washer,
    "gear": gear,
    "bracket": bracket,
    "flange": flange,
}


def draw_part(
    outline: Outline,
    *,
    half_extent: float,
    angle: float,
    finish: str,
    light: Light,
    defects: tuple[str, ...],
    rng: np.random.Generator,
) -> Sprite:
    """Render one part with the defects named ("rust", "scratch") on its surface.

    A scratch or a rust patch that would show too little to be labelled is not drawn, so what is
    drawn is always in Sprite.defects.
    """
    side = 2 * int(np.ceil(half_extent * 1.45)) + 5
    alpha = _coverage(outline, half_extent=half_extent, angle=angle, side=side)
    along = _distance_along(side, half_extent=half_extent, angle=angle)
    height = _height(outline, alpha, along, half_extent=half_extent)
    metal = _finish(finish, along, rng)
    found: dict[str, npt.NDArray[np.bool_]] = {}
    for name in defects:
        paint = _rust if name == "rust" else _scratch
        covered = paint(metal, height, alpha, half_extent=half_extent, rng=rng)
        if covered is not None:
            found[name] = covered
    shine = 0.12 if finish == "black_oxide" else 0.4
    dull = found.get("rust")
    colour = _lit(metal, height, light, shine=shine, dull=dull)
    return Sprite(colour, alpha, found)


def _coverage(outline: Outline, *, half_extent: float, angle: float, side: int) -> Floats:
    """How much of each pixel is metal: float32 (side, side) 0..1, edges anti-aliased."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    centre = (side - 1) / 2
    scale = 1 << SUBPIXEL_BITS
    rings = [
        np.round((ring @ turn * half_extent + centre) * scale).astype(np.int32)
        for ring in outline.rings
    ]
    drawn = np.zeros((side, side), np.uint8)
    cv2.fillPoly(drawn, rings, (255,), cv2.LINE_AA, SUBPIXEL_BITS)
    return np.asarray(drawn * np.float32(1 / 255), np.float32)


def _distance_along(side: int, *, half_extent: float, angle: float) -> Floats:
    """The part's own x of each pixel in half extents: float32 (side, side)."""
    axis = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / np.float32(half_extent)
    along = axis[None, :] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle))
    return np.asarray(along, np.float32)


def _height(outline: Outline, alpha: Floats, along: Floats, *, half_extent: float) -> Floats:
    """Height above the belt in pixels: a rounded rim, flat inside, waves where threaded."""
    inside = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    bevel = max(2.0, outline.bevel_ratio * half_extent)
    slope = np.minimum(inside / bevel, 1)
    height = bevel * np.sqrt(np.maximum(1 - (1 - slope) ** 2, 0))
    if outline.thread_from is not None:
        pitch = max(4.5 / half_extent, 0.075)
        wave = np.sin(along * (2 * np.pi / pitch))
        height += np.where(along > outline.thread_from, 0.9 * wave, 0) * (alpha > 0.5)
    return np.asarray(cv2.GaussianBlur(np.asarray(height, np.float32), (3, 3), 0.8), np.float32)


def _finish(finish: str, along: Floats, rng: np.random.Generator) -> Floats:
    """The surface before light falls on it: float32 (s, s, 3) with grain and a soft reflection."""
    side = along.shape[0]
    grain = rng.standard_normal((side, side), np.float32)
    brushed = (9, 1) if rng.random() < 0.5 else (1, 9)
    grain = cv2.blur(grain, brushed) * np.float32(rng.uniform(0.04, 0.16))
    sheen = np.sin(along * np.float32(rng.uniform(1.0, 2.6)) + np.float32(rng.uniform(0, 6.28)))
    tone = 1 + grain + sheen * np.float32(rng.uniform(0.08, 0.32))
    albedo = np.array(FINISHES[finish], np.float32) * np.float32(rng.uniform(0.85, 1.15))
    return np.asarray(cv2.merge([tone * c for c in albedo]), np.float32)


def _lit(
    metal: Floats,
    height: Floats,
    light: Light,
    *,
    shine: float,
    dull: npt.NDArray[np.bool_] | None,
) -> Floats:
    """Light falling on the height map: ambient + Lambert + a Blinn highlight, BGR 0..1."""
    steep_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    steep_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    length = np.sqrt(steep_x * steep_x + steep_y * steep_y + 1)
    x, y, z = light.direction
    diffuse = np.maximum((z - x * steep_x - y * steep_y) / length, 0)
    norm = float(np.sqrt(x * x + y * y + (z + 1) ** 2))
    glance = np.maximum((z + 1 - x * steep_x - y * steep_y) / (length * norm), 0)
    highlight = cv2.pow(glance, 24) * np.float32(0.55 * shine)
    if dull is not None:
        highlight[dull] *= np.float32(0.05)
    gain = (light.ambient + (1 - light.ambient) * diffuse) * np.float32(1.25)
    lit = [plane * gain + highlight for plane in cv2.split(metal)]
    return np.asarray(cv2.merge(lit), np.float32)


def _rust(
    metal: Floats, height: Floats, alpha: Floats, *, half_extent: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_] | None:
    """Paint one ragged patch of rust into metal, in place; its pixels, or None if too little."""
    side = alpha.shape[0]
    spots = np.argwhere(alpha > 0.9)
    y, x = spots[rng.integers(len(spots))]
    radius = float(np.clip(half_extent * rng.uniform(0.30, 0.5), 12, 26))
    rows, columns = np.ogrid[:side, :side]
    far = np.sqrt((rows - y) ** 2 + (columns - x) ** 2) / radius
    coarse = rng.standard_normal((side // 6 + 2, side // 6 + 2), np.float32)
    ragged = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    depth = np.clip((1.0 - far + 0.22 * ragged) * 3, 0, 1).astype(np.float32)
    covered = np.asarray((depth > 0.35) & (alpha > 0.5), np.bool_)
    if not _shows(covered):
        return None
    speckle = 1 + 0.28 * rng.standard_normal((side, side), np.float32)
    colour = np.array([0.07, 0.19, 0.43], np.float32) * np.float32(rng.uniform(0.75, 1.2))
    share = (depth * np.float32(rng.uniform(0.8, 0.97)))[:, :, None]
    metal[:] = metal * (1 - share) + colour * speckle[:, :, None] * share
    height += depth * 0.5 * speckle
    return covered


def _scratch(
    metal: Floats, height: Floats, alpha: Floats, *, half_extent: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_] | None:
    """Score a few near-parallel strokes into metal, in place; their pixels, or None if too few."""
    for _ in range(4):
        strokes = _strokes(alpha, half_extent=half_extent, rng=rng)
        covered = (strokes > 0.3) & (alpha > 0.5)
        if _shows(covered):
            break
    else:
        return None
    share = strokes[:, :, None]
    bright = np.float32(rng.uniform(1.05, 1.35))
    metal[:] = metal * (1 - share) + bright * share
    shadow = np.roll(strokes, 2, axis=0) * (1 - strokes)
    metal *= (1 - 0.6 * shadow)[:, :, None]
    height -= strokes * 1.5
    return covered


def _strokes(alpha: Floats, *, half_extent: float, rng: np.random.Generator) -> Floats:
    """Anti-aliased strokes around a random point of the part: float32 (s, s) 0..1."""
    side = alpha.shape[0]
    spots = np.argwhere(alpha > 0.9)
    centre = spots[rng.integers(len(spots))][::-1]
    # Along a diagonal, give or take: a box around a level stroke would be a sliver.
    angle = rng.choice([-1, 1]) * rng.uniform(0.4, 1.17)
    length = float(np.clip(half_extent * rng.uniform(0.7, 1.1), 30, 62))
    drawn = np.zeros((side, side), np.uint8)
    for offset in np.arange(int(rng.integers(3, 6))) * rng.uniform(4, 6):
        tilt = angle + rng.normal(0, 0.06)
        along = np.array([np.cos(tilt), np.sin(tilt)]) * length / 2 * rng.uniform(0.6, 1.0)
        across = np.array([-np.sin(angle), np.cos(angle)]) * (offset - 8)
        ends = np.array([centre + across - along, centre + across + along])
        start, end = (np.round(ends * (1 << SUBPIXEL_BITS)).astype(int)).tolist()
        cv2.line(drawn, start, end, (255,), 2, cv2.LINE_AA, SUBPIXEL_BITS)
    return np.asarray(drawn * np.float32(1 / 255) * (alpha > 0.5), np.float32)


def _shows(covered: npt.NDArray[np.bool_]) -> bool:
    """Whether a defect is large enough to be labelled: at least 16 pixels wide and high."""
    _, _, width, height = cv2.boundingRect(covered.astype(np.uint8))
    return bool(width >= 16 and height >= 16 and covered.sum() >= 80)
