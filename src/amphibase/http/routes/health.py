"""/health and the public keys."""

from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel

from amphibase.http.dependencies import Mounted
from amphibase.http.routes.route import built_in_router

router = built_in_router("/health", "health")
keys_router = built_in_router("/.well-known", "health")

KEYS_MAX_AGE_SECONDS = 600


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/live", summary="Check that the process responds")
async def live() -> Health:
    return Health()


@router.get("", summary="The same as /health/ready")
@router.get("/ready", summary="Check that what is sent can be stored: database and files")
async def ready(db: Mounted) -> Health:
    await db.state.backend.check()
    return Health()


# What monitors send; in the documentation a GET stands for them.
router.head("/live", include_in_schema=False)(live)
router.head("", include_in_schema=False)(ready)
router.head("/ready", include_in_schema=False)(ready)


@keys_router.get("/jwks.json", summary="The public keys that tokens verify with")
async def jwks(db: Mounted, response: Response) -> dict[str, list[dict[str, Any]]]:
    response.headers["Cache-Control"] = f"public, max-age={KEYS_MAX_AGE_SECONDS}"
    keys: dict[str, list[dict[str, Any]]] = db.keys.jwks()
    return keys
