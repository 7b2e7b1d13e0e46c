"""Says where the data of an application is, for errors about what cannot be reached."""

from urllib.parse import urlsplit

from amphibase.database.url import database_address
from amphibase.settings.application import PARTS, Part, Settings

OWN_DATABASES: dict[Part, str] = {
    "accounts": "ACCOUNTS_DATABASE_URL",
    "files": "FILES_DATABASE_URL",
}


def locations(settings: Settings) -> str:
    """Return the settings that say where the data is, with their values and without secrets."""
    places: dict[str, str] = {}
    for part in PARTS:
        url = settings.database_of(part)
        if settings.backend_of(part) == "supabase":
            places["SUPABASE_URL"] = str(settings.supabase_url)
            name = "SUPABASE_DB_URL"
        else:
            name = "DATABASE_URL" if url == settings.database else OWN_DATABASES[part]
        if url is not None:
            places[name] = database_address(url)
    store = urlsplit(settings.files_url.get_secret_value())
    if settings.backend_of("files") == "sql" and store.scheme not in ("", "file"):
        places["FILES_URL"] = f"{store.scheme}://{store.hostname}{store.path}"
    return ", ".join(f"{name} is {place}" for name, place in places.items())
