#!/usr/bin/env bash
# What postgrest-js makes of a text with a comma or a quotation mark in a list: two texts, or another
# one. postgrest-py sends the same filters so that they mean what was passed.
#
# Seen with @supabase/postgrest-js 2.109.0 on Node.js 20 and postgrest 2.34.1 on CPython 3.11 (the
# clients of supabase-js and supabase-py), against a stub that keeps the query strings:
#     filter                            postgrest-js         postgrest-py
#     contains("tags", ["tea, green"])  cs.{tea, green}      cs.{"tea, green"}
#     overlaps("tags", ["tea, green"])  ov.{tea, green}      ov.{"tea, green"}
#     contains("tags", [""])            cs.{}                cs.{""}
#     in("title", ['"tea"'])            in.("tea")           in.("\"tea\"")
#     in("title", ['5", 6"'])           in.("5", 6"")        in.("5\", 6\"")
# One would guess that elements which are passed as a list stay the elements. in() quotes what has a
# comma or a parenthesis, without escaping, and contains(), containedBy() and overlaps() join the
# list with commas (PostgrestFilterBuilder.ts). Postgres reads {tea, green} as two tags: contains()
# finds the rows with both of them and not those with the one; overlaps() finds the rows of either;
# and contains() of one empty text finds every row that has a list. In PostgREST, quotation marks
# around an element of in are not part of it: the rows titled tea are found for '"tea"'. Pass such a
# list as the text of an array, contains("tags", '{"tea, green"}'), and in() as a filter of your own.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check postgrest==2.34.1
npm install --silent --no-audit --no-fund --prefix "$folder" @supabase/postgrest-js@2.109.0

cat >"$folder/filters.mjs" <<'JAVASCRIPT'
import { PostgrestClient } from "@supabase/postgrest-js";

const fetch = async (url) => {
  console.log(new URL(url).searchParams.get("column"));
  return new Response("[]", { status: 200 });
};
const client = new PostgrestClient("http://stub", { fetch });
for (const [name, values] of JSON.parse(process.argv[2])) {
  await client.from("note").select()[name]("column", values);
}
JAVASCRIPT

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version

import httpx
from postgrest import SyncPostgrestClient

FILTERS = [
    ("contains", ["tea, green"]),
    ("overlaps", ["tea, green"]),
    ("contains", [""]),
    ("in", ['"tea"']),
    ("in", ['5", 6"']),
]


def by_javascript():
    command = ["node", f"{sys.argv[1]}/filters.mjs", json.dumps(FILTERS)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def by_python():
    sent = []

    def respond(request):
        sent.append(request.url.params["column"])
        return httpx.Response(200, json=[])

    with httpx.Client(transport=httpx.MockTransport(respond)) as http:
        client = SyncPostgrestClient("http://stub", http_client=http)
        for name, values in FILTERS:
            query = client.from_("note").select()
            getattr(query, "in_" if name == "in" else name)("column", values).execute()
    return sent


print("postgrest", version("postgrest"))
javascript, python = by_javascript(), by_python()
for (name, values), first, second in zip(FILTERS, javascript, python, strict=True):
    print(f"{name:8} {values!s:16} {first:17} {second}")
assert python == [
    'cs.{"tea, green"}',
    'ov.{"tea, green"}',
    'cs.{""}',
    r'in.("\"tea\"")',
    r'in.("5\", 6\"")',
]
assert javascript == [
    "cs.{tea, green}",
    "ov.{tea, green}",
    "cs.{}",
    'in.("tea")',
    'in.("5", 6"")',
], "postgrest-js quotes elements of lists in another way now"
PYTHON
echo "as described"
