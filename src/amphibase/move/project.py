"""The API of a Supabase project that is an end of the move, as the service."""

from urllib.parse import urlsplit

from amphibase.move.endpoints import SupabaseEndpoint
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import SECRET_PREFIX, ApiKey, SupabaseProject


def client_of(endpoint: SupabaseEndpoint) -> SupabaseClient:
    """Return a client of the project; everything is sent with the service's key.

    Raises:
        ConfigurationError: the key is another one, which would see less and not say so.
    """
    key = ApiKey("SUPABASE_SERVICE_KEY", endpoint.service_key.get_secret_value().strip())
    key.check("service_role", SECRET_PREFIX, urlsplit(endpoint.url).hostname or "")
    secret = endpoint.jwt_secret
    return SupabaseClient(
        SupabaseProject(
            url=endpoint.url.rstrip("/"),
            anon_key=key,
            service_key=key,
            jwt_secret=secret.get_secret_value() if secret else None,
        )
    )
