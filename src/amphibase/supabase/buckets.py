"""The buckets of a Supabase project."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from amphibase.backend.files import Bucket
from amphibase.errors import Conflict, ForeignKeyViolation, NotFound
from amphibase.supabase.storage_api import StorageApi

PAGE = 1000


class SupabaseBuckets:
    """The part of `Files` that is about buckets."""

    def __init__(self, storage: StorageApi) -> None:
        self._storage = storage

    async def bucket(self, id: str) -> Bucket | None:
        try:
            return _bucket(await self._storage.bucket("GET", id))
        except NotFound:
            return None

    async def buckets(self) -> Sequence[Bucket]:
        listed: list[Bucket] = []
        while True:
            page = await self._storage.buckets(
                "GET",
                params={
                    "limit": str(PAGE),
                    "offset": str(len(listed)),
                    "sortColumn": "id",
                    "sortOrder": "asc",
                },
            )
            listed += map(_bucket, page)
            if len(page) < PAGE:
                return sorted(listed, key=lambda bucket: bucket.id)

    async def create_bucket(
        self,
        id: str,
        *,
        public: bool = False,
        file_size_limit: int | None = None,
        allowed_types: Sequence[str] = (),
    ) -> Bucket:
        rules = _rules(public, file_size_limit, allowed_types)
        try:
            await self._storage.buckets("POST", json={"id": id, "name": id, **rules})
        except Conflict:
            raise Conflict("There is a bucket with this name already") from None
        return _bucket(await self._storage.bucket("GET", id))

    async def update_bucket(
        self, id: str, *, public: bool, file_size_limit: int | None, allowed_types: Sequence[str]
    ) -> Bucket:
        try:
            await self._storage.bucket("PUT", id, _rules(public, file_size_limit, allowed_types))
        except NotFound:
            raise NotFound("There is no such bucket") from None
        return _bucket(await self._storage.bucket("GET", id))

    async def delete_bucket(self, id: str) -> bool:
        try:
            await self._storage.bucket("DELETE", id)
        except NotFound:
            return False
        except ForeignKeyViolation:
            raise ForeignKeyViolation("The bucket holds files; delete them first") from None
        return True


def _rules(
    public: bool, file_size_limit: int | None, allowed_types: Sequence[str]
) -> dict[str, Any]:
    return {
        "public": public,
        "file_size_limit": file_size_limit,
        "allowed_mime_types": list(allowed_types) or None,
    }


def _bucket(body: dict[str, Any]) -> Bucket:
    return Bucket(
        id=body["id"],
        public=bool(body["public"]),
        file_size_limit=body.get("file_size_limit"),
        allowed_types=tuple(body.get("allowed_mime_types") or ()),
        created_at=datetime.fromisoformat(body["created_at"]),
        updated_at=datetime.fromisoformat(body["updated_at"]),
    )
