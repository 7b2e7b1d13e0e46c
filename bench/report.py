"""From the rounds' figures to medians, ratios and bars: the table on screen and the JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from bench.load import Result
from bench.machine import ROOT

RESULTS = ROOT / "bench" / "results"
SATURATED = 0.9


@dataclass(frozen=True, slots=True)
class Bar:
    """What the ratio of our figure to the peer's has to be."""

    peer: str
    kind: Literal["at least", "at most"]
    ratio: float

    def met(self, ratio: float) -> bool:
        """Whether this ratio passes."""
        return ratio >= self.ratio if self.kind == "at least" else ratio <= self.ratio

    def __str__(self) -> str:
        return f"{'≥' if self.kind == 'at least' else '≤'} {number(self.ratio)}"


@dataclass(slots=True)
class Measurement:
    """One figure that is taken of several servers, once a round, ours being the first of them."""

    title: str
    unit: str
    bar: Bar
    figures: dict[str, list[float]] = field(default_factory=dict)
    runs: dict[str, list[Result]] = field(default_factory=dict)

    def add(self, server: str, figure: float, run: Result) -> None:
        """Keep one round's figure and the run that it comes from."""
        self.figures.setdefault(server, []).append(figure)
        self.runs.setdefault(server, []).append(run)

    def ratios(self, server: str) -> list[float]:
        """Ours to this server's, round by round: the two runs of a round are neighbours in time."""
        ours = next(iter(self.figures.values()))
        return [mine / theirs for mine, theirs in zip(ours, self.figures[server], strict=True)]

    @property
    def met(self) -> bool:
        """Whether the median of the rounds' ratios passes the bar."""
        return self.bar.met(median(self.ratios(self.bar.peer)))

    def busy(self, server: str) -> float | None:
        """How much of its core the server used, at the median."""
        shares = [run.server_busy for run in self.runs[server] if run.server_busy is not None]
        return median(shares) if shares else None

    def summary(self) -> dict[str, Any]:
        """What the JSON file says of it."""
        ours = next(iter(self.figures))
        servers = {
            name: {
                "median": median(figures),
                "rounds": figures,
                "server_busy": self.busy(name),
                **({} if name == ours else {"ratio": spread(self.ratios(name))}),
            }
            for name, figures in self.figures.items()
        }
        bar = {"peer": self.bar.peer, "kind": self.bar.kind, "ratio": self.bar.ratio}
        return {
            "title": self.title,
            "unit": self.unit,
            "servers": servers,
            "bar": bar | {"met": self.met},
        }


def spread(values: list[float]) -> dict[str, float]:
    """The median with the lowest and the highest."""
    return {"median": median(values), "lowest": min(values), "highest": max(values)}


def table(measurement: Measurement) -> Table:
    """One measurement, a row for each server."""
    title = f"{measurement.title}, {measurement.unit}"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("", no_wrap=True)
    for name in ("Median", "Range", "Core", "Ratio", "Range", "Bar"):
        shown.add_column(name, justify="right", no_wrap=True)
    ours = next(iter(measurement.figures))
    for name, figures in measurement.figures.items():
        busy = measurement.busy(name)
        used = "" if busy is None else f"{busy:.0%}"
        cells = [name, number(median(figures)), span(figures), used]
        if name != ours:
            ratios = measurement.ratios(name)
            cells += [f"[bold]{number(median(ratios))}[/bold]", span(ratios)]
        if name == measurement.bar.peer:
            cells.append(verdict(measurement))
        shown.add_row(*cells)
    return shown


def span(values: list[float]) -> str:
    """The lowest and the highest."""
    return f"{number(min(values))}-{number(max(values))}"


def verdict(measurement: Measurement) -> str:
    """The bar, and whether it is met."""
    word = "[green]met[/green]" if measurement.met else "[red]missed[/red]"
    return f"{measurement.bar} {word}"


def number(value: float) -> str:
    """Three digits that say something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def warn(console: Console, measurements: list[Measurement]) -> None:
    """Say so when the load generator, not a server, may have set a figure."""
    for measurement in measurements:
        for name, runs in measurement.runs.items():
            busiest = max(run.load_busy for run in runs)
            if busiest > SATURATED:
                message = f"the load generator used {busiest:.0%} of its core on {name}"
                console.print(f"[yellow]{measurement.title}: {message}[/yellow]")


def write(benchmark: str, document: dict[str, Any]) -> Path:
    """Write the JSON file of a benchmark."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{benchmark}.json"
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return path
