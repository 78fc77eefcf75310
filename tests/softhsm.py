"""SoftHSM2 for tests: where it is found, and tokens of its own in a temporary folder."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIN = "1234"

# What scripts/softhsm.sh unpacked, then where distributions install it.
_FETCHED = ROOT / ".venv" / "softhsm" / "usr"
_MODULES = (
    _FETCHED / "lib" / "softhsm" / "libsofthsm2.so",
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
)


class SoftHsmMissingError(Exception):
    """There is no SoftHSM2 here that works; the text says why."""


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """A module, and the folder with its configuration, tokens and PIN files."""

    module: Path
    utility: Path
    folder: Path

    def uri(self, token: str, *, key: str = "object=kek", pin: str = PIN) -> str:
        """The URI of a key; the PIN lies in a file of its own."""
        file = self.folder / f"pin-{pin}"
        file.touch(mode=0o600)
        file.write_text(f"{pin}\n", encoding="ascii")
        return f"pkcs11:token={token};{key}?module-path={self.module}&pin-source=file:{file}"

    def add_token(self, label: str) -> None:
        """Make a token; a process that has loaded the module already sees it only after a new start of it."""
        names = ["--init-token", "--free", "--label", label, "--so-pin", "so-4321", "--pin", PIN]
        command = [str(self.utility), "--module", str(self.module), *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise SoftHsmMissingError(f"{self.utility}: {done.stderr or done.stdout}")


def make_softhsm(folder: Path) -> SoftHsm:
    """SoftHSM2 with no token yet, configured in a folder through SOFTHSM2_CONF of this process.

    Raises SoftHsmMissingError if it is not installed, or not fetched.
    """
    module = next((path for path in _MODULES if path.is_file()), None)
    fetched = _FETCHED / "bin" / "softhsm2-util"
    utility = str(fetched) if fetched.is_file() else shutil.which("softhsm2-util")
    if module is None or utility is None:
        raise SoftHsmMissingError("no SoftHSM2: run scripts/softhsm.sh, or install softhsm2")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n",
        encoding="utf-8",
    )
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    return SoftHsm(module, Path(utility), folder)
