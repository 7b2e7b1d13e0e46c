"""Versions of objects: clients ask for them (storage-js 2.119), and this Storage keeps one."""

from collections.abc import Mapping
from typing import Any, Final

from amphibase.gateway.storage.errors import FeatureNotEnabled

_WITHOUT_VERSIONS: Final[Mapping[str, tuple[Any, ...]]] = {
    "versionId": (None,),
    "sourceVersionId": (None,),
    "noncurrentVersions": (None, "exclude"),
    "deleteMarkers": (None, "exclude"),
    "exactMatch": (None, False),
    "versioning_status": (None, "DISABLED"),
}
"""What a request may say of versions, and of the lists that show them."""


def reject_versions(members: Mapping[str, Any]) -> None:
    """Reject a body or a query that needs versions: without them it would get other content.

    Raises:
        FeatureNotEnabled: names the member.
    """
    for name, allowed in _WITHOUT_VERSIONS.items():
        if members.get(name) not in allowed:
            raise FeatureNotEnabled(
                f"{name} is not supported: this Storage keeps one version of each object"
            )
