"""What Prometheus reads at one address: the store's totals, the hub's runtimes, the gate's own counters."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from pathlib import Path

import aiohttp
from fastapi import Request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool

from mutirao.cases.role import Act
from mutirao.errors import StoreError
from mutirao.store.models import Audit, Case, Decision, Delivery, Notice
from mutirao.store.store import Store
from mutirao.web.hub import HubAway
from mutirao.web.site import Site

GATE_S = 3


@dataclass(frozen=True, slots=True)
class Watch:
    """Where the gate's workers answer, what opens the metrics from afar, and where the last signed head stands."""

    gate_urls: tuple[str, ...] = ()
    token: str = ""
    state_file: Path | None = None


async def may_read(request: Request, site: Site, watch: Watch) -> bool:
    """True for the token, for operators, and for whoever asks on this machine without the proxy."""
    said = request.headers.get("authorization", "").partition(" ")[2].strip()
    if watch.token and compare_digest(said.encode("utf-8", "replace"), watch.token.encode()):
        return True
    here = request.client is not None and request.client.host in ("127.0.0.1", "::1")
    if here and "x-forwarded-for" not in request.headers:
        return True
    visitor = await site.visitor(request)
    return visitor is not None and visitor.person.may(Act.OPERATE)


async def health(site: Site) -> dict[str, str]:
    """What each dependency says: `ok`, or why not; `status` is ok where all are."""
    found = {}
    try:
        await run_in_threadpool(site.store.check)
        found["store"] = "ok"
    except StoreError:
        found["store"] = "does not answer"
    try:
        await site.hub.check()
        found["hub"] = "ok"
    except HubAway:
        found["hub"] = "does not answer"
    return {"status": "ok" if set(found.values()) == {"ok"} else "degraded", **found}


async def exposition(site: Site, watch: Watch) -> bytes:
    """Everything as text; what can't be asked is said to be down and left out."""
    up = {"store": True, "hub": True}
    families: list[Metric] = []
    try:
        families += await run_in_threadpool(_totals, site.store, watch, site.clock())
    except StoreError:
        up["store"] = False
    try:
        running = await site.hub.running()
        families.append(GaugeMetricFamily("mutirao_runtimes", "Runtimes that run or start.", value=running))
    except HubAway:
        up["hub"] = False
    if watch.gate_urls:
        told = await asyncio.gather(*(_worker(url) for url in watch.gate_urls), return_exceptions=True)
        up["gate"] = all(isinstance(text, str) for text in told)
        families += _together(text for text in told if isinstance(text, str))
    parts = GaugeMetricFamily("mutirao_up", "1 where the part answers.", labels=["part"])
    for name, answers in up.items():
        parts.add_metric([name], int(answers))
    errors = CounterMetricFamily(
        "mutirao_pages_store_errors", "Failures of the database met by the pages.", value=site.store.errors
    )
    registry = CollectorRegistry()
    registry.register(_Fixed([parts, errors, *families]))
    return generate_latest(registry)


async def _worker(url: str) -> str:
    timeout = aiohttp.ClientTimeout(total=GATE_S)
    async with aiohttp.ClientSession(timeout=timeout) as client, client.get(f"{url}/metrics") as answer:
        answer.raise_for_status()
        return await answer.text()


def _together(texts: Iterable[str]) -> list[Metric]:
    """The workers' metrics as one gate's: counters, gauges and buckets of the same name and labels add up."""
    found: dict[str, Metric] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            held = sums.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                held[key] = held.get(key, 0.0) + sample.value
    for name, family in found.items():
        for (sample_name, labels), value in sums[name].items():
            family.add_sample(sample_name, dict(labels), value)
    return list(found.values())


class _Fixed(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def _totals(store: Store, watch: Watch, now: datetime) -> list[Metric]:
    """What the store holds, counted; with nobody's name in it."""
    cases = CounterMetricFamily("mutirao_cases", "Cases opened.", labels=["category"])
    decisions = CounterMetricFamily("mutirao_decisions", "Decisions written.", labels=["action", "category"])
    delivered = CounterMetricFamily(
        "mutirao_notice_deliveries", "Attempts to show a notice.", labels=["channel", "outcome"]
    )
    with store.read() as session:
        for category, count in session.execute(select(Case.category, func.count()).group_by(Case.category)):
            cases.add_metric([category], count)
        by_action = select(Decision.action, Case.category, func.count()).join(Case, Case.id == Decision.case_id)
        for action, category, count in session.execute(by_action.group_by(Decision.action, Case.category)):
            decisions.add_metric([action, category], count)
        by_channel = select(Delivery.channel, Delivery.outcome, func.count())
        for channel, outcome, count in session.execute(by_channel.group_by(Delivery.channel, Delivery.outcome)):
            delivered.add_metric([channel, outcome], count)
        notices = session.scalar(select(func.count()).select_from(Notice)) or 0
        last = session.execute(select(Audit.id, Audit.at).order_by(Audit.id.desc()).limit(1)).first()
    entries = last.id if last else 0
    return [
        cases,
        decisions,
        delivered,
        CounterMetricFamily("mutirao_notices_written", "Notices written.", value=notices),
        CounterMetricFamily("mutirao_audit_entries", "Entries of the audit.", value=entries),
        *_head(watch.state_file, entries, now),
    ]


def _head(state_file: Path | None, entries: int, now: datetime) -> list[Metric]:
    """How old the last signed head is, 0 where nothing came after it, and whether signing fails."""
    if state_file is None:
        return []
    try:
        state = json.loads(state_file.read_text())
        signed, number, error = datetime.fromisoformat(state["signed_at"]), int(state["number"]), bool(state["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return [GaugeMetricFamily("mutirao_audit_head_failed", "1 where no head could be signed.", value=1)]
    age_s = 0.0 if number >= entries else max(0.0, (now - signed).total_seconds())
    return [
        GaugeMetricFamily("mutirao_audit_head_failed", "1 where no head could be signed.", value=int(error)),
        GaugeMetricFamily("mutirao_audit_head_entry", "The entry that was signed last.", value=number),
        GaugeMetricFamily(
            "mutirao_audit_head_age_seconds", "Age of the last head; 0 if nothing is newer.", value=age_s
        ),
    ]
