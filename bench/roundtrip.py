"""A trivial cell's round trip, through proxy and gate with scanning, against stock JupyterHub in the same run.

usage: ./run bench roundtrip [--rounds 10] [--cells 30]

Ours is fully walled and guarded. Rounds alternate between the two, so that noise on the machine meets both. Printed:
medians and the 99th percentile in milliseconds, and the ratio ours / stock. Written: bench/results/roundtrip.json.
"""

import argparse
import asyncio
import json
import statistics
from pathlib import Path

from tests.flows.service import PASSWORD, running

from bench import stock
from bench.client import SUBPROTOCOL, Kernel, Member

RESULTS = Path(__file__).parent / "results"
CELL = "1"


async def times_ms(kernel: Kernel, cells: int) -> list[float]:
    """Round trips of a trivial cell, from sending it to its reply and idle, milliseconds."""
    return [(await kernel.run(CELL)).seconds * 1000 for _ in range(cells)]


def summary(samples: list[float]) -> dict[str, float]:
    """p50, p99 and the spread of the round trips."""
    cuts = statistics.quantiles(samples, n=100)
    return {
        "roundtrip_p50_ms": round(cuts[49], 3),
        "roundtrip_p99_ms": round(cuts[98], 3),
        "min_ms": round(min(samples), 3),
        "max_ms": round(max(samples), 3),
        "cells": len(samples),
    }


async def measure(our_url: str, rounds: int, cells: int) -> dict[str, dict[str, dict[str, float]]]:
    """Both wire formats, ours and stock's, alternated."""
    found: dict[str, dict[str, list[float]]] = {"v1": {"ours": [], "stock": []}, "json": {"ours": [], "stock": []}}
    async with (
        stock.stock() as stock_url,
        Member(our_url, "ana", PASSWORD) as ours,
        Member(stock_url, "ana", stock.PASSWORD) as theirs,
    ):
        await ours.start()
        await theirs.start()
        for name, protocols in (("v1", (SUBPROTOCOL,)), ("json", ())):
            async with (
                ours.kernel(protocols=protocols) as our_kernel,
                theirs.kernel(protocols=protocols) as their_kernel,
            ):
                await times_ms(our_kernel, 5)
                await times_ms(their_kernel, 5)
                for _ in range(rounds):
                    found[name]["ours"] += await times_ms(our_kernel, cells)
                    found[name]["stock"] += await times_ms(their_kernel, cells)
        await ours.stop()
        await theirs.stop()
    return {name: {side: summary(samples) for side, samples in sides.items()} for name, sides in found.items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cells", type=int, default=30)
    options = parser.parse_args()
    with running("10.140.0.0/16") as service:
        found = asyncio.run(measure(service.url, options.rounds, options.cells))
    result = {
        "bench": "roundtrip",
        "ours": found["v1"]["ours"],
        "stock": found["v1"]["stock"],
        "json_format": found["json"],
    }
    keys = ("roundtrip_p50_ms", "roundtrip_p99_ms")
    result["ratios"] = {key: round(found["v1"]["ours"][key] / found["v1"]["stock"][key], 4) for key in keys}
    for name, sides in found.items():
        print(f"{name:5} {'':6} {'p50 ms':>9} {'p99 ms':>9} {'min':>9} {'max':>9} {'cells':>6}")
        for side, row in sides.items():
            shown = [f"{row[key]:9.2f}" for key in ("roundtrip_p50_ms", "roundtrip_p99_ms", "min_ms", "max_ms")]
            print(f"{'':5} {side:6} {' '.join(shown)} {row['cells']:6.0f}")
        ratio = sides["ours"]["roundtrip_p50_ms"] / sides["stock"]["roundtrip_p50_ms"]
        print(f"{'':5} ratio of medians, ours / stock: 1/{1 / ratio:.1f}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "roundtrip.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
