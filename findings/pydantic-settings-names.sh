#!/usr/bin/env bash
# Which variables pydantic-settings reads for a field that has an alias: with populate_by_name, the
# field's own name too, from the environment and from .env, and before a default.
#
# Seen with pydantic-settings 2.16.3, pydantic 2.14.4, a field port with validation_alias GATEWAY_PORT:
#     PORT=8000 in the environment      without populate_by_name: 54321 (the default)
#                                       with it:                  8000
#     PORT=8000 in .env, extra=ignore   without: 54321            with it: 8000
#     both PORT and GATEWAY_PORT        GATEWAY_PORT's
# One would guess that populate_by_name is about arguments of the class, as in pydantic, where it is
# set so that code and tests can pass port=…; the variable that was chosen to be unmistakable is then
# read under a name that hosting platforms, make and every other program set. In .env there are two
# ways in: the name itself, and names that no field has, which are passed on as extra values and then
# taken by name. Switch populate_by_name off on the two sources, and dotenv_filtering to
# only_existing.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pydantic==2.14.4 pydantic-settings==2.16.3

cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
from importlib.metadata import version
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def settings(by_name):
    class Settings(BaseSettings):
        model_config = SettingsConfigDict(
            env_file=".env", extra="ignore", populate_by_name=by_name
        )
        port: int = Field(54321, validation_alias="GATEWAY_PORT")

    return Settings().port


for name in ("PORT", "GATEWAY_PORT"):
    os.environ.pop(name, None)
print("pydantic-settings", version("pydantic-settings"))
os.environ["PORT"] = "8000"
environment = settings(False), settings(True)
os.environ["GATEWAY_PORT"] = "9000"
both = settings(True)
del os.environ["PORT"], os.environ["GATEWAY_PORT"]
Path(".env").write_text("PORT=8000\n")
dotenv = settings(False), settings(True)
print("environment", environment, "both", both, ".env", dotenv)
assert (environment, both, dotenv) == ((54321, 8000), 9000, (54321, 8000)), "read otherwise now"
PYTHON
echo "as described"
