"""Says where the data of an application is, for errors about what cannot be reached."""

from urllib.parse import urlsplit

from pydantic import SecretStr

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
    if settings.backend_of("files") == "sql":
        places["FILES_URL"] = _address(settings.files_url)
    places["MESSAGES_URL"] = _address(settings.messages_url)
    places["RATE_LIMIT_URL"] = _address(settings.rate_limit_url)
    return ", ".join(f"{name} is {place}" for name, place in places.items() if place)


def _address(setting: SecretStr) -> str:
    """Return the URL of a service without its secrets; nothing where it names none."""
    url = urlsplit(setting.get_secret_value())
    if url.scheme in ("", "file", "memory"):
        return ""
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.hostname}{port}{url.path}"
