"""Writes the OpenAPI document of this release to standard output: `python -m gateway.api.write_openapi`."""

import json
import sys
from importlib.metadata import version

from gateway.api.openapi import openapi_document
from gateway.api.routes import ROUTES


def openapi_text() -> str:
    """The document as docs/openapi.json holds it."""
    return json.dumps(openapi_document(ROUTES, version("gatewatch")), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi_text())
