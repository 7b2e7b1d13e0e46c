#!/usr/bin/env bash
# What `import httpx` brings into a process: rich, pygments and click, wherever another package has
# installed them.
#
# Seen with httpx 0.28.1 on CPython 3.11:
#     installed beside it           import httpx also imports     modules
#     nothing                       none of the three             about 180
#     rich, click (with pygments)   all three                     about 280, 6 MB more
# One would guess that the command line of a client library is imported by its command. The package
# tries to import its command's module at the end of __init__.py, and says what is missing only when the command runs;
# so whether it succeeds depends on what else there is in the environment. A service whose virtual environment
# has a tool built on rich, as most command lines are, starts later and stays larger than in a
# container with its own requirements alone. Import httpx where it is used if a start matters.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for name in alone beside; do
    python3 -m venv "$folder/$name"
    "$folder/$name/bin/pip" install --quiet --disable-pip-version-check httpx==0.28.1
done
"$folder/beside/bin/pip" install --quiet --disable-pip-version-check \
    rich==15.0.0 click==8.5.1 pygments==2.21.0

modules() {
    "$folder/$1/bin/python" - <<'PYTHON'
import sys

import httpx

print(httpx.__version__, *(name for name in ("click", "pygments", "rich") if name in sys.modules))
PYTHON
}
alone=$(modules alone)
beside=$(modules beside)
echo "alone:  httpx $alone"
echo "beside: httpx $beside"
[ "$alone" = "0.28.1" ]
[ "$beside" = "0.28.1 click pygments rich" ]
