"""What a move did and what its proof saw: as JSON for programs and as a page for people."""

from datetime import datetime
from enum import StrEnum
from html import escape
from pathlib import Path
from string import Template

from pydantic import BaseModel, Field

from amphibase.move.plan import NotMoved
from amphibase.move.stage import Kept, SideDifference, Verification

MAX_LISTED = 200
"""Of the differences on the page; the JSON has all that were read."""


class RunOutcome(StrEnum):
    """How a run or a verification ended."""

    VERIFIED = "verified"
    FAILED = "failed"
    UNVERIFIED = "unverified"

    @property
    def exit_code(self) -> int:
        return {"verified": 0, "failed": 1, "unverified": 3}[self.value]


class ReportedComparison(BaseModel):
    """A table, the accounts or a bucket on both sides.

    Args:
        source, target: how many rows, accounts or files there are.
        checksums: of the source and of the target, in hex; None where rows were compared instead.
        differences: how many of them differ.
    """

    subject: str
    source: int
    target: int
    checksums: tuple[str, str] | None = None
    differences: int = 0

    @property
    def is_equal(self) -> bool:
        return self.differences == 0 and self.source == self.target


class RunReport(BaseModel):
    """All that is reported of a run or a verification.

    Args:
        hashes: kind of password hash → accounts.
        quarantined: rows that the target rejected.
        seconds: of each stage's steps, such as `tables: run`.
        pause_seconds: how long the source rejected writes; None without a freeze.
        unguarded: tables that could be written to in the pause.
    """

    plan: str
    source: str
    target: str
    started_at: datetime
    finished_at: datetime
    comparisons: list[ReportedComparison] = Field(default_factory=list)
    differences: list[SideDifference] = Field(default_factory=list)
    unverified: list[SideDifference] = Field(default_factory=list)
    hashes: dict[str, int] = Field(default_factory=dict)
    not_moved: list[NotMoved] = Field(default_factory=list)
    kept: list[Kept] = Field(default_factory=list)
    quarantined: int = 0
    quarantine_allowed: bool = False
    seconds: dict[str, float] = Field(default_factory=dict)
    pause_seconds: float | None = None
    unguarded: list[str] = Field(default_factory=list)

    @property
    def outcome(self) -> RunOutcome:
        if self.differences or (self.quarantined and not self.quarantine_allowed):
            return RunOutcome.FAILED
        return RunOutcome.UNVERIFIED if self.unverified else RunOutcome.VERIFIED

    def add(self, verified: Verification) -> None:
        """Take over what the verification of a stage saw."""
        by_subject: dict[str, int] = {}
        for difference in verified.differences:
            by_subject[difference.subject] = by_subject.get(difference.subject, 0) + 1
        for subject in sorted(verified.counts.keys() | by_subject.keys()):
            source, target = verified.counts.get(subject, (0, 0))
            self.comparisons.append(
                ReportedComparison(
                    subject=subject,
                    source=source,
                    target=target,
                    checksums=verified.checksums.get(subject),
                    differences=by_subject.get(subject, 0),
                )
            )
        self.differences += verified.differences
        self.unverified += verified.unverified

    def write(self, plan: Path) -> Path:
        """Write `NAME.report.json` and `NAME.report.html` beside the plan; return the latter."""
        text = self.model_dump_json(indent=2, exclude_none=True)
        plan.with_suffix(".report.json").write_text(text + "\n", "utf-8")
        page = plan.with_suffix(".report.html")
        page.write_text(format_page(self), "utf-8")
        return page


PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Move of $plan: $outcome</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.verified { color: #116329 } .failed { color: #b3261e } .unverified { color: #8a5a00 }
table { border-collapse: collapse; width: 100% } caption { text-align: left; color: #555 }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
td.bar { width: 40% } svg { display: block; width: 100%; height: 1rem }
code { overflow-wrap: anywhere }
</style>
<h1>Move of $plan: <span class="$outcome">$outcome</span></h1>
<p><code>$source</code> → <code>$target</code><br>$started_at to $finished_at$pause</p>
$sections
</html>
""")


def format_page(report: RunReport) -> str:
    """Return the report as a page that needs nothing but itself."""
    sections = [_chart(report.comparisons)]
    if report.quarantined:
        allowed = "allowed" if report.quarantine_allowed else "not allowed"
        sections.append(
            f"<p><strong>{report.quarantined} rows were rejected</strong> by the target ({allowed})"
            "; they are in the quarantine file beside the plan, with the reasons.</p>"
        )
    sections += [
        _list("Differences", _rows_of(report.differences)),
        _list("Could not be verified", _rows_of(report.unverified)),
        _list("Password hashes", [(kind, f"{n:,}") for kind, n in report.hashes.items()]),
        _list("Not moved", [(each.what, each.reason) for each in report.not_moved]),
        _list("Kept", [(f"{each.subject} {each.key}", each.reason) for each in report.kept]),
        _list(
            "Could be written to in the pause",
            [(name, "the role that connects may not guard it") for name in report.unguarded],
        ),
        _list("Durations", [(step, f"{n:,.1f} s") for step, n in report.seconds.items()]),
    ]
    pause = report.pause_seconds
    return PAGE.substitute(
        plan=escape(report.plan),
        outcome=report.outcome,
        source=escape(report.source),
        target=escape(report.target),
        started_at=report.started_at.isoformat(" ", "seconds"),
        finished_at=report.finished_at.isoformat(" ", "seconds"),
        pause="" if pause is None else f"; the source rejected writes for {pause:.1f} s",
        sections="\n".join(section for section in sections if section),
    )


def _chart(comparisons: list[ReportedComparison]) -> str:
    """Return a row with a bar for each subject: green as far as both sides hold the same."""
    if not comparisons:
        return "<p>Nothing was compared.</p>"
    rows = "\n".join(
        f"<tr><td>{escape(each.subject)}</td><td class=bar>{_bar(each)}</td>"
        f"<td class=number>{each.source:,}</td><td class=number>{each.target:,}</td>"
        f"<td class=number>{each.differences:,}</td><td>{_sums(each)}</td></tr>"
        for each in comparisons
    )
    equal = sum(each.is_equal for each in comparisons)
    return (
        f"<table><caption>{equal} of {len(comparisons)} are equal on both sides. Green: the same;"
        " red: missing, added or different.</caption>\n"
        "<tr><th>what<th>equal<th class=number>source<th class=number>target"
        f"<th class=number>different<th>checksums</tr>\n{rows}\n</table>"
    )


def _bar(each: ReportedComparison) -> str:
    whole = max(each.source, each.target, each.differences, 1)
    wrong = max(each.differences, abs(each.source - each.target))
    # A single row of a million is to be seen too.
    red = 0.0 if wrong == 0 else max(2.0, 100 * wrong / whole)
    label = "all equal" if wrong == 0 else f"{wrong:,} of {whole:,} differ"
    return (
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<rect width="{100 - red:.2f}" height="10" fill="#2da44e"/>'
        f'<rect x="{100 - red:.2f}" width="{red:.2f}" height="10" fill="#cf222e"/></svg>'
    )


def _sums(each: ReportedComparison) -> str:
    if each.checksums is None:
        return ""
    source, target = each.checksums
    shown = source[:12] if source == target else f"{source[:12]} ≠ {target[:12]}"
    return f"<code>{escape(shown)}</code>"


def _rows_of(differences: list[SideDifference]) -> list[tuple[str, str]]:
    return [(f"{each.subject} {each.key or ''}".strip(), each.message) for each in differences]


def _list(title: str, rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    shown = "\n".join(
        f"<tr><td>{escape(left)}</td><td>{escape(right)}</td></tr>"
        for left, right in rows[:MAX_LISTED]
    )
    more = f"<p>and {len(rows) - MAX_LISTED:,} more</p>" if len(rows) > MAX_LISTED else ""
    return f"<h2>{title}</h2>\n<table>\n{shown}\n</table>{more}"
