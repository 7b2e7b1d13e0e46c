"""The peers' own environment, created when missing, with exactly the pinned versions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.machine import ROOT

PEERS = ROOT / "bench" / "peers"
REQUIREMENTS = PEERS / "requirements.txt"
ENVIRONMENT = ROOT / "bench" / ".venv-peers"
PEERS_PYTHON = ENVIRONMENT / "bin" / "python"
LOG_LINES = 20


class ServerError(Exception):
    """A server that did not start or sent a wrong response, with the last lines of its log."""

    def __init__(self, name: str, message: str, log: str = ""):
        super().__init__(f"{name}: {message}")
        self.log = "\n".join(log.splitlines()[-LOG_LINES:])


def make() -> None:
    """Make the environment when it is missing, and bring it to exactly the pinned versions."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise ServerError("the peers' environment", "uv is not installed")
    steps = [[uv, "pip", "sync", "--python", str(PEERS_PYTHON), str(REQUIREMENTS)]]
    if not PEERS_PYTHON.exists():
        steps.insert(0, [uv, "venv", "--python", sys.executable, str(ENVIRONMENT)])
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode != 0:
            raise ServerError("the peers' environment", f"`{' '.join(step)}` failed", done.stderr)


def versions() -> dict[str, str]:
    """What the peers' environment holds."""
    lines = REQUIREMENTS.read_text().splitlines()
    pins = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return dict(pins)
