#!/usr/bin/env bash
# pydantic writes a timedelta of 365 days or more in JSON with years, of which each has 365 days.
# It reads them back so, while other libraries take a year for one of the calendar.
#
# Seen with pydantic 2.14.3 and isodate 0.7.2:
#     timedelta    JSON      pydantic reads    isodate, counted from 2024-01-01
#     364 days     P364D     364 days          364 days later
#     365 days     P1Y       365 days          366 days later
#     400 days     P1Y35D    400 days          401 days later
# One would guess that a type which has no years is written in days, as timedelta itself shows it.
# Where anybody but pydantic reads them, write days by a serializer of your own.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pydantic==2.14.3 isodate==0.7.2

"$folder/venv/bin/python" <<'PYTHON'
import json
from datetime import date, timedelta

import isodate
import pydantic
from pydantic import TypeAdapter

adapter = TypeAdapter(timedelta)
begin = date(2024, 1, 1)
print("pydantic", pydantic.VERSION)
seen = []
for days in (364, 365, 400):
    text = json.loads(adapter.dump_json(timedelta(days=days)))
    back = adapter.validate_python(text).days
    later = (begin + isodate.parse_duration(text) - begin).days
    seen.append((days, text, back, later))
    print(*seen[-1])
assert seen == [(364, "P364D", 364, 364), (365, "P1Y", 365, 366), (400, "P1Y35D", 400, 401)]
PYTHON
