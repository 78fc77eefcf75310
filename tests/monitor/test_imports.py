"""The monitor starts light."""

import subprocess
import sys

CODE = """
import sys
import monitor.__main__
heavy = {"torch", "ultralytics", "evidently", "pandas", "jwt", "cv2", "scipy", "openvino", "starlette"}
print(sorted(heavy & sys.modules.keys()))
"""


def test_no_heavy_library_is_imported() -> None:
    """Evidently alone would take seconds and hundreds of megabytes, for a report a day."""
    result = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout == "[]\n"
