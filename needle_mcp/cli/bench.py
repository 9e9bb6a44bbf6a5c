"""`needle-mcp bench`: how fast planning is on this machine."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from needle_mcp.cli.common import Setup, echo_json, json_option, run_async, table, takes_setup

if TYPE_CHECKING:
    from needle_mcp.planner.bench import Bench


def _counts(_context: click.Context, _parameter: click.Parameter, value: str) -> list[int]:
    try:
        counts = [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers, like 5,50.") from None
    if min(counts) < 1:
        raise click.BadParameter("At least one tool is needed.")
    return counts


@click.command(short_help="Measure the stages of a plan on this machine.")
@click.option(
    "--tools", "counts", default="5,50", show_default=True, callback=_counts, help="Catalogue sizes, e.g. 5,50."
)
@click.option("--runs", default=10, show_default=True, type=click.IntRange(1), help="Rounds over the mix of requests.")
@json_option
@takes_setup
def bench(setup: Setup, counts: list[int], runs: int, as_json: bool) -> None:
    """Measure how long each stage of a plan takes, over a mix of requests and the tools of the shipped manifests.

    No server is started. Other work on the machine makes the figures worse, so measure on an idle one.
    """
    measured = run_async(partial(_measure, setup, counts, runs))
    if as_json:
        echo_json({"benches": [asdict(one) for one in measured]})
        return
    for one in measured:
        _show(one)


async def _measure(setup: Setup, counts: list[int], runs: int) -> "list[Bench]":
    from needle_mcp.planner.bench import measure

    manifests = setup.settings.manifests
    # desk first, since most of the requests are for it.
    ordered = sorted(manifests.values(), key=lambda manifest: (manifest.server != "desk", manifest.server))
    tools = [tool for manifest in ordered for tool in manifest.specs()]
    async with setup.engine() as engine:
        return [await measure(engine, tools, count, runs) for count in counts]


def _show(measured: "Bench") -> None:
    from needle_mcp.planner.bench import STAGES

    started = f", model loaded in {measured.start_ms:.0f} ms" if measured.start_ms >= 1 else ""
    click.echo(f"{measured.tools} tools, {measured.plans} plans{started}")
    rows = [
        ["first", *(f"{getattr(measured.cold, stage):.1f}" for stage in STAGES)],
        ["warm p50", *(f"{measured.warm[stage].p50:.1f}" for stage in STAGES)],
        ["warm p95", *(f"{measured.warm[stage].p95:.1f}" for stage in STAGES)],
    ]
    table(["ms", *STAGES], rows)
