"""What TLS scanners say of a real gateway with its default configuration: sslyze against Mozilla's modern profile, and
testssl.sh where it is installed (apt-get install testssl.sh).

sslyze gets an environment of its own below .venv, because it wants other versions of what the gateway uses; it needs a
package index once. Prints one JSON line; exits 1 if a scanner found a weakness. Example: python benchmarks/tls_scan.py
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.gateway_process import ROOT, new_home, running_gateway
    from benchmarks.promotion import CONVEYOR, VERSIONS, seal_version
else:
    from gateway_process import ROOT, new_home, running_gateway
    from promotion import CONVEYOR, VERSIONS, seal_version

SSLYZE_VERSION = "6.3.1"
SSLYZE_FOLDER = ROOT / ".venv" / "sslyze"
COMPLIANT = "OK - Compliant"
NOTED = frozenset({"OK", "INFO", "LOW"})  # severities of testssl.sh that are no weakness
# Facts about the development authority, which nobody can ask whether a certificate still counts.
NOT_OURS = frozenset({"cert_revocation"})
TIMEOUT_SECONDS = 600

Finding = dict[str, str]


def main() -> None:
    """Scan and print the line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="sslyze only")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    with console.status("sslyze's environment"):
        sslyze = _sslyze()
    with new_home() as home:
        seal_version(home, (CONVEYOR / "conveyor.onnx").read_bytes(), VERSIONS[0])
        with running_gateway(home) as served:
            target = f"localhost:{served.port}"
            with console.status("sslyze"):
                faults = _scan_with_sslyze(sslyze, target, home.layout.ca_file)
            with console.status("testssl.sh, some minutes"):
                findings = (
                    None if arguments.quick else _scan_with_testssl(target, home.layout.ca_file)
                )
    weaknesses = [each for each in findings or () if each["id"] not in NOT_OURS]
    testssl = "not installed" if findings is None else "failed" if weaknesses else "ok"
    line = {
        "sslyze_modern": "failed" if faults else "ok",
        "sslyze_faults": faults,
        "testssl": "skipped" if arguments.quick else testssl,
        "testssl_findings": findings,
    }
    print(json.dumps(line))
    sys.exit(bool(faults or weaknesses))


def _sslyze() -> Path:
    """The program, installed if it is not there."""
    program = SSLYZE_FOLDER / "bin" / "sslyze"
    if not program.exists():
        venv.create(SSLYZE_FOLDER, with_pip=True, clear=True)
        python = SSLYZE_FOLDER / "bin" / "python"
        command = [str(python), "-m", "pip", "install", "-q", f"sslyze=={SSLYZE_VERSION}"]
        if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
            sys.exit(f"sslyze {SSLYZE_VERSION} cannot be installed: see above")
    return program


def _scan_with_sslyze(program: Path, target: str, ca_file: Path) -> list[str]:
    """What is not as the modern profile wants it; empty if all is."""
    command = [str(program), "--mozilla_config=modern", f"--certinfo_ca_file={ca_file}", target]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    _, is_there, verdict = done.stdout.partition("COMPLIANCE AGAINST TLS CONFIGURATION")
    if not is_there:
        sys.exit(f"sslyze failed:\n{done.stdout}\n{done.stderr}")
    if COMPLIANT in verdict:
        return []
    return [line.strip(" *") for line in verdict.splitlines() if line.strip().startswith("*")]


def _scan_with_testssl(target: str, ca_file: Path) -> list[Finding] | None:
    """What it calls more than a note; None if it is not installed."""
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--quiet", "--warnings", "off", "--color", "0", "--jsonfile", str(report)]
        subprocess.run(
            [program, *options, "--add-ca", str(ca_file), target],
            check=False,
            stdout=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
        )
        found = json.loads(report.read_text(encoding="utf-8"))
    return [
        {name: each[name] for name in ("id", "severity", "finding")}
        for each in found
        if each["severity"] not in NOTED
    ]


if __name__ == "__main__":
    main()
