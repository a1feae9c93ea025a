"""What the gate counts, and how Prometheus reads it: plain counters, so that several gates can be added up.

A histogram is counters too: `NAME_le_BOUND`, one a bucket, `NAME_us` for the sum in microseconds.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mutirao.cases.cell import Cell, Verdict
from mutirao.cases.letter import Halted
from mutirao.cases.notice import Notice
from mutirao.errors import StoreError
from mutirao.gate.judge import Judge

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
JUDGING, ROUND_TRIP = "judging", "round_trip"

HISTOGRAMS = {
    JUDGING: "Time to judge one cell.",
    ROUND_TRIP: "Time from passing a cell on to the kernel's reply.",
}
COUNTERS = {
    "connections": "Connections to kernels since the start.",
    "requests": "HTTP requests that came by a twin route.",
    "refused_routes": "Requests whose route was refused.",
    "upstream_away": "Requests whose notebook server did not answer.",
    "declined": "Connections that the notebook server declined.",
    "too_many_connections": "Connections that were refused because their member had too many.",
    "refused_starts": "Kernels that were not started because running code is restricted.",
    "wire_errors": "Messages that broke the protocol.",
    "not_judged": "Cells that were refused because judging failed or took too long.",
    "store_errors": "Cells whose judging failed at the database.",
}


def observe(counters: Counter[str], name: str, seconds: float) -> None:
    """Count one measurement into its bucket."""
    bound = next((bound for bound in BOUNDS_S if seconds <= bound), None)
    counters[f"{name}_le_{'inf' if bound is None else bound}"] += 1
    counters[f"{name}_us"] += round(seconds * 1e6)


class Measured:
    """A judge whose work is counted."""

    def __init__(self, judge: Judge, counters: Counter[str]) -> None:
        self.judge_ = judge
        self.counters = counters

    async def judge(self, cell: Cell) -> Verdict:
        """The verdict of the judge behind."""
        began = time.perf_counter()
        try:
            verdict = await self.judge_.judge(cell)
        except BaseException as error:
            self.counters["not_judged"] += 1
            if isinstance(error, StoreError):
                self.counters["store_errors"] += 1
            raise
        observe(self.counters, JUDGING, time.perf_counter() - began)
        category = verdict.notice.category if verdict.notice else None
        self.counters[f"verdict:{verdict.action.value}:{category.value if category else ''}"] += 1
        return verdict

    async def standing(self, actor: str | None, owner: str, halted: Halted) -> Notice | None:
        """As the judge behind says."""
        return await self.judge_.standing(actor, owner, halted)


def exposition(counters: Mapping[str, int]) -> bytes:
    """The counters as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(_Counted(counters))
    return generate_latest(registry)


class _Counted(Collector):
    def __init__(self, counters: Mapping[str, int]) -> None:
        self.counters = counters

    def collect(self) -> Iterable[Metric]:
        counters = self.counters
        for name, said in COUNTERS.items():
            yield CounterMetricFamily(f"mutirao_gate_{name}", said, value=counters.get(name, 0))
        yield GaugeMetricFamily(
            "mutirao_gate_connections_open", "Connections to kernels now.", value=counters.get("connections_open", 0)
        )
        messages = CounterMetricFamily("mutirao_gate_messages", "Messages that were passed on.", labels=["to"])
        for to in ("kernel", "client"):
            messages.add_metric([to], counters.get(f"messages_to_{to}", 0))
        yield messages
        verdicts = CounterMetricFamily("mutirao_gate_verdicts", "Verdicts on cells.", labels=["action", "category"])
        for name, count in sorted(counters.items()):
            if name.startswith("verdict:"):
                _, action, category = name.split(":")
                verdicts.add_metric([action, category], count)
        yield verdicts
        yield from self._histograms()

    def _histograms(self) -> Iterator[Metric]:
        for name, said in HISTOGRAMS.items():
            total, buckets = 0, []
            for bound in (*BOUNDS_S, "inf"):
                total += self.counters.get(f"{name}_le_{bound}", 0)
                buckets.append(("+Inf" if bound == "inf" else str(bound), total))
            yield HistogramMetricFamily(
                f"mutirao_gate_{name}_seconds",
                said,
                buckets=buckets,
                sum_value=self.counters.get(f"{name}_us", 0) / 1e6,
            )
