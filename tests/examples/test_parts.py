"""A rendered part: its extent, its holes, the light on it and the defects on its surface."""

import numpy as np
import pytest

from examples.conveyor.parts import FINISHES, SHAPES, Light, Sprite, circle, draw_part, polygon

OVERHEAD = Light((0.0, 0.0, 1.0), ambient=0.4)


def sprite(name: str, *, light: Light = OVERHEAD, defects: tuple[str, ...] = ()) -> Sprite:
    """A part of half extent 40 at angle 0 with a fixed seed."""
    rng = np.random.default_rng(3)
    outline = SHAPES[name](rng)
    return draw_part(
        outline,
        half_extent=40,
        angle=0.0,
        finish="steel",
        light=light,
        defects=defects,
        rng=rng,
    )


def test_polygon_keeps_its_corners() -> None:
    """The corners come back in order as float32."""
    assert polygon((0, 1), (2, 3)).tolist() == [[0, 1], [2, 3]]


def test_circle_lies_around_its_centre() -> None:
    """Four corners of a circle are its east, south, west and north."""
    assert np.round(circle(2, x=5, y=1, corners=4)).tolist() == [[7, 1], [5, 3], [3, 1], [5, -1]]


def test_washer_is_a_ring() -> None:
    """Metal reaches out to the half extent, and the bore shows the belt."""
    alpha = sprite("washer").alpha
    middle = alpha.shape[0] // 2
    metal = np.flatnonzero(alpha[middle] > 0.5)
    assert (metal[0], metal[-1]) == (middle - 40, middle + 40)
    assert alpha[middle, middle - 15 : middle + 16].max() == 0


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_part_stays_inside_its_sprite(name: str) -> None:
    """No part touches the border of its sprite, whatever its shape."""
    alpha = sprite(name).alpha
    assert alpha[[0, -1]].max() == 0
    assert alpha[:, [0, -1]].max() == 0


@pytest.mark.parametrize("defect", ["rust", "scratch"])
def test_defect_lies_on_its_part(defect: str) -> None:
    """Every pixel of a defect is metal, and there are enough of them to see."""
    drawn = sprite("gear", defects=(defect,))
    covered = drawn.defects[defect]
    assert drawn.alpha[covered].min() > 0.5
    assert covered.sum() >= 80


def test_defect_changes_the_surface_there_only() -> None:
    """Rust turns the metal below it brown: less blue than red."""
    drawn = sprite("gear", defects=("rust",))
    blue, _, red = drawn.colour[drawn.defects["rust"]].mean(axis=0)
    assert blue < 0.6 * red


def test_light_from_the_left_brightens_the_left_rim() -> None:
    """A slanting lamp makes the rim that faces it brighter than the one that turns away."""
    colour = sprite("washer", light=Light((-0.8, 0.0, 0.6), ambient=0.3)).colour
    middle = colour.shape[0] // 2
    rows = slice(middle - 3, middle + 4)
    left = colour[rows, middle - 40 : middle - 37].mean()
    right = colour[rows, middle + 37 : middle + 40].mean()
    assert left > 1.2 * right


def test_part_without_defects_reports_none() -> None:
    """A sound part has no defect pixels."""
    assert sprite("nut").defects == {}


def test_finishes_are_shares_of_light() -> None:
    """No finish reflects more light than falls on it."""
    assert all(0 < share < 1 for albedo in FINISHES.values() for share in albedo)
