#!/usr/bin/env bash
# How a password is taken off a URL of SQLAlchemy.
#
# Seen with SQLAlchemy 2.1.9, make_url("postgresql://ann:secret@db/app"):
#     url.set(password=None)        the password stays
#     url.set(password="")          ann:@db: an empty password
#     url._replace(password=None)   ann@db
#     str(url)                      ann:***@db, which reads like a URL and connects to nothing
# One would guess that set() sets. It leaves what is None as it is, so that a URL that is written to a
# log, a report or a plan "without its password" has it, and no error says so. Take it off by
# _replace, which is the documented way in spite of its underscore, and let a test look for it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlalchemy==2.1.9

"$folder/venv/bin/python" - <<'PYTHON'
import sqlalchemy
from sqlalchemy import make_url


def written(url):
    return url.render_as_string(hide_password=False)


url = make_url("postgresql://ann:secret@db/app")
seen = {
    "set(password=None)": written(url.set(password=None)),
    'set(password="")': written(url.set(password="")),
    "_replace(password=None)": written(url._replace(password=None)),
    "str()": str(url),
}
print("SQLAlchemy", sqlalchemy.__version__)
for how, text in seen.items():
    print(f"{how}: {text}")
assert list(seen.values()) == [
    "postgresql://ann:secret@db/app",
    "postgresql://ann:@db/app",
    "postgresql://ann@db/app",
    "postgresql://ann:***@db/app",
], "URLs change otherwise now"
PYTHON
echo "as described"
