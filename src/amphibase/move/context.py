"""What every stage of a move works with."""

from dataclasses import dataclass, field

from amphibase.move.endpoints import Endpoint
from amphibase.move.journal import Journal
from amphibase.move.plan import Plan
from amphibase.move.progress import NoProgress, Progress
from amphibase.move.quarantine import Quarantine


@dataclass(slots=True)
class MoveContext:
    """A plan, the two ends it names, and where is written how far it is.

    Args:
        overwrite: whether what was written to the target since a verified run is lost.
    """

    plan: Plan
    source: Endpoint
    target: Endpoint
    journal: Journal
    quarantine: Quarantine
    progress: Progress = field(default_factory=NoProgress)
    overwrite: bool = False
