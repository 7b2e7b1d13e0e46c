#!/usr/bin/env bash
# What a password hash leaves in memory: nothing after the first, its whole memory cost after the
# second, in each thread that hashes.
#
# Seen with argon2-cffi 25.1.0 (argon2-cffi-bindings 25.1.0), CPython 3.11, glibc 2.36, Linux x86-64:
#     after 1 hash   +0 MiB
#     after 2 hashes +19 MiB
#     after 20       +19 MiB
# One would guess that memory which is freed after each hash is either always given back or always
# kept. glibc maps the first large block apart and unmaps it when it is freed, but at that moment it
# raises the size from which on blocks are mapped (M_MMAP_THRESHOLD is dynamic, mallopt(3)), and
# with it the size above which free memory is returned: the next blocks come from the thread's
# arena and stay there. So a server needs its memory cost once for every thread that hashes, for
# good, and a benchmark that signs in once does not see it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    argon2-cffi==25.1.0 argon2-cffi-bindings==25.1.0 cffi==2.0.0

"$folder/venv/bin/python" - <<'PYTHON'
import platform
import threading

from argon2.low_level import Type, hash_secret

MEMORY_COST_KIB = 19 * 1024


def resident_mib():
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def hash_once():
    hash_secret(b"a password", b"a salt of a size", 2, MEMORY_COST_KIB, 1, 32, Type.ID)


def work():
    before = resident_mib()
    for count in range(1, 21):
        hash_once()
        if count in (1, 2, 20):
            left[count] = resident_mib() - before


left = {}
thread = threading.Thread(target=work)
thread.start()
thread.join()
print("python", platform.python_version(), *platform.libc_ver())
for count, mib in left.items():
    print(f"after {count:2} hashes: {mib:+.1f} MiB")
assert left[1] < 3, "the first hash leaves memory behind now"
assert 16 < left[2] < 24, "the second hash no longer leaves its memory cost behind"
assert 16 < left[20] < 24, "further hashes add to what is left now"
PYTHON
echo "as described"
