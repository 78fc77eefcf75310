"""Promoting and rolling back under load: no request may fail, and every answer must name the version that made it.

Two versions of one network, told apart by their class names, take turns in a real gateway over TLS 1.3 on loopback,
while 8 keep-alive connections ask without pause. Each swap loads its version anew. Prints one JSON line; exits 1 if a
request failed or an answer names another version than the one that made it.
Example: python benchmarks/promotion.py --rounds 3
"""

import argparse
import json
import os
import ssl
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from gateway.commands.opening import open_keks, open_trusted_signers, opened_store, utc_now
from gateway.inference.engines.openvino import inspect_onnx
from gateway.sealing.container import ModelFacts
from gateway.sealing.files import sealed_file_name, write_sealed_model
from gateway.sealing.payload import Payload
from gateway.sealing.sealed_model import open_model, seal_model
from gateway.sealing.signers import load_signer
from gateway.store.database import write_transaction
from gateway.store.queries.models import insert_model_version, promote_version
from gateway.store.records import ModelVersion, Stage

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.gateway_process import (
        MODEL_NAME,
        Home,
        Served,
        new_home,
        resident_mb,
        running_gateway,
    )
else:
    from gateway_process import (
        MODEL_NAME,
        Home,
        Served,
        new_home,
        resident_mb,
        running_gateway,
    )

CONVEYOR = Path(__file__).resolve().parents[1] / "examples" / "conveyor"
CONNECTIONS = 8
VERSIONS = ("one", "two")


@dataclass(slots=True)
class Load:
    """What the connections saw; calls are (when it ended, seconds it took)."""

    calls: list[tuple[float, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    mislabelled: int = 0
    by_version: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VERSIONS, 0))
    is_over: threading.Event = field(default_factory=threading.Event)


def main() -> None:
    """Run it and print its line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="a promotion and a rollback each")
    parser.add_argument("--onnx", type=Path, default=CONVEYOR / "conveyor.onnx")
    parser.add_argument("--image", type=Path, default=CONVEYOR / "frame.jpg")
    arguments = parser.parse_args()
    with new_home() as home:
        for version in VERSIONS:
            seal_version(home, arguments.onnx.read_bytes(), version)
        with running_gateway(home) as served:
            figures = torture(home, served, arguments.image.read_bytes(), arguments.rounds)
    print(json.dumps(figures))
    sys.exit(1 if figures["failed"] or figures["mislabelled"] else 0)


def seal_version(home: Home, onnx: bytes, version: str) -> None:
    """Seal a network with class names that end in its version and register it; the first goes into production."""
    facts = inspect_onnx(onnx)
    names = tuple(f"{name}-{version}" for name in facts.class_names)
    sealed = seal_model(
        ModelFacts(
            name=MODEL_NAME,
            version=version,
            task=facts.task,
            input_size=facts.input_size,
            precision="f32",
            engine="openvino",
            dynamic=facts.is_dynamic,
            stride=facts.stride_pixels,
            decode="full",
            made_with={},
            gates={},
        ),
        Payload(names, onnx),
        keks=open_keks(home.settings),
        signer=load_signer(home.layout.keys / "signer.key"),
        random=os.urandom,
    )
    home.settings.models_folder.mkdir(exist_ok=True)
    write_sealed_model(home.settings.models_folder, sealed, name=MODEL_NAME, version=version)
    _register(home, sealed, version, names)


def _register(home: Home, sealed: bytes, version: str, names: tuple[str, ...]) -> None:
    header = open_model(
        sealed,
        name=MODEL_NAME,
        version=version,
        keks=open_keks(home.settings),
        trusted_signers=open_trusted_signers(home.settings),
    ).header
    registered = ModelVersion(
        name=MODEL_NAME,
        version=version,
        stage=Stage.CANDIDATE,
        file_name=sealed_file_name(MODEL_NAME, version),
        plaintext_sha256=header.plaintext_sha256,
        class_names=names,
        input_size=header.input_size,
        registered_at=utc_now(),
    )
    with opened_store(home.settings) as store, write_transaction(store) as connection:
        insert_model_version(connection, registered)
        if version == VERSIONS[0]:
            promote_version(connection, MODEL_NAME, version, now=utc_now())


def torture(home: Home, served: Served, image: bytes, rounds: int) -> dict[str, Any]:
    """Swap under load; the figures of the line."""
    with _client(home, served, "operator") as operator, loaded(home, served, image) as load:
        calm_seconds = 3.0 if rounds >= 10 else 1.0
        time.sleep(calm_seconds)
        _swap(operator, "promote", {"version": VERSIONS[1]})
        _swap(operator, "rollback", {})
        rss_before = resident_mb(served.process_id)
        began = time.monotonic()
        seconds = []
        for _ in range(rounds):
            seconds.append(_swap(operator, "promote", {"version": VERSIONS[1]}))
            seconds.append(_swap(operator, "rollback", {}))
        ended = time.monotonic()
        time.sleep(calm_seconds)
        rss_after = resident_mb(served.process_id)
    calm = [took for at, took in load.calls if at > ended]
    during = [took for at, took in load.calls if began <= at <= ended]
    return {
        "swaps": 2 * rounds,
        "requests": len(load.calls),
        "failed": len(load.failures),
        "mislabelled": load.mislabelled,
        "answers": load.by_version,
        "p99_ms_calm": _percentile_ms(calm, 99),
        "p99_ms_during": _percentile_ms(during, 99),
        "swap_seconds_median": round(statistics.median(seconds), 3),
        "rss_mb_before": round(rss_before, 1),
        "rss_mb_after": round(rss_after, 1),
        "failures": sorted(set(load.failures))[:5],
    }


@contextmanager
def loaded(home: Home, served: Served, image: bytes) -> Iterator[Load]:
    """Connections that ask without pause until the end."""
    load = Load()
    threads = [
        threading.Thread(target=_ask, args=(home, served, image, load)) for _ in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.is_over.set()
        for thread in threads:
            thread.join()


def _ask(home: Home, served: Served, image: bytes, load: Load) -> None:
    with _client(home, served, "client") as client:
        while not load.is_over.is_set():
            started = time.monotonic()
            try:
                answer = client.post("/predict", content=image)
            except httpx.HTTPError as exc:
                load.failures.append(type(exc).__name__)
                continue
            load.calls.append((time.monotonic(), time.monotonic() - started))
            _check(answer, load)


def _check(answer: httpx.Response, load: Load) -> None:
    if answer.status_code != 200:
        load.failures.append(f"{answer.status_code} {answer.text[:200]}")
        return
    content = answer.json()
    label: str = content["metadata"]["model"]
    version = label.rpartition("@")[2]
    names = {found["name"] for found in content["images"][0]["results"]}
    has_made_it = names and all(name.endswith(f"-{version}") for name in names)
    if not has_made_it or answer.headers["x-model-version"] != label:
        load.mislabelled += 1
    load.by_version[version] += 1


def _swap(operator: httpx.Client, verb: str, body: dict[str, str]) -> float:
    started = time.monotonic()
    answer = operator.post(f"/v1/models/{MODEL_NAME}/{verb}", json=body)
    if answer.status_code != 200:
        sys.exit(f"{verb} failed: {answer.status_code} {answer.text}")
    return time.monotonic() - started


def _client(home: Home, served: Served, role: str) -> httpx.Client:
    return httpx.Client(
        base_url=f"https://127.0.0.1:{served.port}",
        verify=ssl.create_default_context(cafile=str(home.layout.ca_file)),
        headers={"Authorization": f"Bearer {home.token(role)}"},
        timeout=60.0,
    )


def _percentile_ms(seconds: list[float], percent: int) -> float:
    return round(statistics.quantiles(seconds, n=100)[percent - 1] * 1e3, 1)


if __name__ == "__main__":
    main()
