"""What options about output are called everywhere, and where words for people go."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def terminal() -> "Console":
    """Standard error, which takes words and progress; results go to standard output."""
    # A gateway that starts says nothing on a terminal, and does without this import.
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True)
