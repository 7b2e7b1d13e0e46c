"""/health and the public keys."""

from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel

from amphibase.http.dependencies import Mounted
from amphibase.http.routes.route import router as built_in_router

router = built_in_router("/health", "health")
keys_router = built_in_router("/.well-known", "health")

KEYS_MAX_AGE_SECONDS = 600


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/live", summary="The process answers")
async def live() -> Health:
    return Health()


@router.get("/ready", summary="The process can serve: its database answers")
async def ready(db: Mounted) -> Health:
    await db.state.backend.check()
    return Health()


@keys_router.get("/jwks.json", summary="The public keys that tokens verify with")
async def jwks(db: Mounted, response: Response) -> dict[str, list[dict[str, Any]]]:
    response.headers["Cache-Control"] = f"public, max-age={KEYS_MAX_AGE_SECONDS}"
    keys: dict[str, list[dict[str, Any]]] = db.keys.jwks()
    return keys
