"""The API of a Supabase project that is an end of the move, as the service."""

from amphibase.move.endpoints import SupabaseEndpoint
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import ApiKey, SupabaseProject


def client_of(endpoint: SupabaseEndpoint) -> SupabaseClient:
    """Return a client of the project; everything is sent with the service's key."""
    key = ApiKey("SUPABASE_SERVICE_KEY", endpoint.service_key.get_secret_value().strip())
    secret = endpoint.jwt_secret
    return SupabaseClient(
        SupabaseProject(
            url=endpoint.url.rstrip("/"),
            anon_key=key,
            service_key=key,
            jwt_secret=secret.get_secret_value() if secret else None,
        )
    )
