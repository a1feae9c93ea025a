"""The gate's own health and metrics: what it says of its store, and the times of cells that went through."""

from mutirao.errors import StoreError


async def test_a_gate_whose_store_is_away_says_so(street):
    def away() -> None:
        raise StoreError("gone")

    async with street.http.get(f"{street.gate_url}/healthz") as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "ok")
    street.gate.probe = away
    async with street.http.get(f"{street.gate_url}/healthz") as answer:
        said = await answer.json()
    assert (answer.status, said["status"], said["store"]) == (503, "degraded", "does not answer")


async def test_a_round_trip_is_measured_once_a_cell(home):
    async with home.kernel() as kernel, home.tab(kernel) as tab:
        await tab.run("1 + 1")
        await tab.run("2 + 2")
        await tab.run("please stop")
    async with home.http.get(f"{home.gate_url}/metrics") as answer:
        assert answer.headers["content-type"].startswith("text/plain")
        text = await answer.text()
    assert "mutirao_gate_round_trip_seconds_count 2.0" in text
    assert "mutirao_gate_connections_total 1.0" in text
    assert "mutirao_gate_connections_open " in text


async def test_metrics_are_for_this_machine_alone(home):
    """By the proxy the path leads to the member's server, whatever comes behind the kernels' prefix."""
    for path in ("metrics", "api/kernels/metrics", "api/kernels/../metrics"):
        async with home.http.get(home.url(path)) as answer:
            assert "mutirao_gate" not in await answer.text()
