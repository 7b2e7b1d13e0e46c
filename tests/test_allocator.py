"""Memory goes back to the system."""

import subprocess
import sys

import pytest

CODE = """
import threading
from pathlib import Path
from amphibase.accounts.passwords import hash_password
from amphibase.allocator import trim, use_one_arena

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 1024**2

use_one_arena()
hash_password("warm")
before = resident()
thread = threading.Thread(target=lambda: [hash_password("x") for _ in range(3)])
thread.start()
thread.join()
trim()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone keeps it")
def test_what_a_thread_has_hashed_with_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 10
