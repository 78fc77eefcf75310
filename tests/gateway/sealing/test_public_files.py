"""Who else can change what this process believes."""

import os
from pathlib import Path

import pytest

from gateway.sealing.public_files import why_changeable, why_path_changeable, why_replaceable


def status(mode: int, owner: int) -> os.stat_result:
    """What stat says of a file with this mode and owner."""
    return os.stat_result((mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("owner", [0, os.geteuid()])
@pytest.mark.parametrize("mode", [0o644, 0o755, 0o400])
def test_roots_and_our_own_are_believed(mode: int, owner: int) -> None:
    """As long as nobody else may write."""
    assert why_changeable(status(mode, owner), safe_mode=0o644) is None


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o777])
def test_what_others_may_write_is_not(mode: int) -> None:
    """Group or everybody."""
    why = why_changeable(status(mode, 0), safe_mode=0o644)
    assert why == "can be changed by others; chmod it to 0644"


def test_what_another_user_owns_is_not() -> None:
    """An owner may change the mode at any time."""
    other = os.geteuid() + 1
    why = why_changeable(status(0o644, other), safe_mode=0o644)
    assert why == f"belongs to user {other}; chown it to root or to user {os.geteuid()}"


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A file two folders deep, which only root and this user can change."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    for parent in (folder, folder.parent):
        parent.chmod(0o755)
    (folder / "m.so").touch(mode=0o644)
    return folder / "m.so"


def test_a_path_that_nobody_else_can_change_is_believed(module: Path) -> None:
    """Up to the root; a sticky folder for everybody further up is no danger, nor is a link of our own."""
    assert why_path_changeable(module) is None
    module.parents[1].chmod(0o1777)
    assert why_path_changeable(module) is None
    link = module.with_name("link.so")
    link.symlink_to("m.so")
    assert why_path_changeable(link) is None


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_folder_on_the_way_that_others_may_write_is_named(
    module: Path, mode: int, depth: int
) -> None:
    """Whoever can write it can put another file, or folder, in the place of this."""
    folder = module.parents[depth]
    folder.chmod(mode)
    expected = f"in {folder}, which can be changed by others; chmod it to 0755"
    assert why_path_changeable(module) == expected


def test_a_sticky_folder_is_not_safe_for_what_lies_directly_in_it(module: Path) -> None:
    """Somebody else may have put the file there."""
    module.parent.chmod(0o1777)
    assert f"in {module.parent}, which can be" in str(why_path_changeable(module))


def test_where_links_lead_counts_and_where_they_lie(module: Path, tmp_path: Path) -> None:
    """Links to the file and to a folder on the way, also through a further link."""
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o1777)
    (open_folder / "file.so").symlink_to(module)
    (open_folder / "folder").symlink_to(module.parent)
    (tmp_path / "twice").symlink_to(open_folder / "folder")
    for path in (
        open_folder / "file.so", open_folder / "folder" / "m.so", tmp_path / "twice" / "m.so",
    ):  # fmt: skip
        assert f"in {open_folder}, which can be" in str(why_path_changeable(path))
    open_folder.chmod(0o755)
    assert why_path_changeable(tmp_path / "twice" / "m.so") is None
    module.parent.chmod(0o777)
    assert f"in {module.parent}, which can be" in str(why_path_changeable(open_folder / "file.so"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_not_believed(module: Path) -> None:
    """Sticky or not: its owner can do everything in it."""
    module.parents[1].chmod(0o1755)
    os.chown(module.parents[1], 12345, 12345)
    assert f"in {module.parents[1]}, which belongs to user 12345" in str(
        why_path_changeable(module)
    )


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """As what they are."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert why_path_changeable(tmp_path / "a") is None
    with pytest.raises(OSError, match=r"symbolic links|No such file|Symlink loop"):
        why_path_changeable(tmp_path / "a" / "m.so")


@pytest.mark.parametrize(
    ("mode", "is_named"), [(0o755, False), (0o775, False), (0o777, True), (0o1777, True)]
)
def test_a_file_in_a_folder_of_everybody_is_replaceable(
    tmp_path: Path, mode: int, is_named: bool
) -> None:
    """Whoever was there first owns it in a sticky one, and anybody in another."""
    file = tmp_path / "folder" / "jwks.json"
    file.parent.mkdir()
    file.touch()
    file.parent.chmod(mode)
    assert is_named == (why_replaceable(file) is not None)
