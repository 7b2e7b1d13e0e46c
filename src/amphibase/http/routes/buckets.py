"""/files/buckets: the rooms of files, for administrators."""

from typing import Any

from fastapi import Depends

from amphibase.http.dependencies import Mounted, admin_user
from amphibase.http.routes.route import built_in_router
from amphibase.http.schemas import BucketRead, CreateBucket, ListOf, UpdateBucket

router = built_in_router("/buckets")
router.dependencies.append(Depends(admin_user))


@router.get("", response_model=ListOf[BucketRead], summary="All buckets, by name")
async def list_buckets(db: Mounted) -> Any:
    buckets = await db.state.files.buckets()
    return ListOf[BucketRead](items=[BucketRead.model_validate(bucket) for bucket in buckets])


@router.post("", status_code=201, response_model=BucketRead, summary="Make a bucket")
async def create_bucket(new: CreateBucket, db: Mounted) -> Any:
    return await db.state.files.create_bucket(
        new.id,
        public=new.public,
        file_size_limit=new.file_size_limit,
        allowed_types=new.allowed_types,
    )


@router.get("/{id}", response_model=BucketRead, summary="One bucket")
async def get_bucket(id: str, db: Mounted) -> Any:
    return await db.state.files.bucket(id)


@router.patch("/{id}", response_model=BucketRead, summary="Change a bucket's rules")
async def update_bucket(id: str, changes: UpdateBucket, db: Mounted) -> Any:
    return await db.state.files.update_bucket(id, **changes.model_dump(exclude_unset=True))


@router.delete("/{id}", status_code=204, summary="Delete an empty bucket")
async def delete_bucket(id: str, db: Mounted) -> None:
    await db.state.files.delete_bucket(id)
