"""Images in another size or format, made while they are read.

What an image costs is known before it is decoded, from its first bytes: how many pixels it has,
and whether it moves. What is too large, moves, or is no picture of pixels is rejected then.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from amphibase.errors import TooManyRequests, Unavailable
from amphibase.gateway.storage.coercion import AS_TEXT, OptionalWhole, Whole
from amphibase.gateway.storage.errors import (
    EntityTooLarge,
    FeatureNotEnabled,
    InvalidStorageRequest,
)
from amphibase.gateway.storage.schemas import StorageModel

if TYPE_CHECKING:
    from PIL.Image import Image

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "AVIF"]

MAX_SOURCE_BYTES = 25 * 1024 * 1024
MAX_SOURCE_PIXELS = 50_000_000
"""As on Supabase (its docs, "Storage Image Transformations", limits)."""

MAX_SIDE = 2500
DEFAULT_QUALITY = 80
WORKERS = 2
MAX_WAITING = 16
MAX_SECONDS = 20.0
AVIF_SPEED = 8
"""Of 0 to 10, at which the largest image takes seconds and not minutes."""

_RESIZING_TYPES = {"cover": "fill", "contain": "fit", "fill": "force"}

UNREADABLE = "The source image is invalid or unsupported for rendering"

FORMATS: dict[Format, str] = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
}
"""What is read and written, and its type."""


class Transformation(StorageModel):
    """How an image is to be shown, by the names that clients send.

    Attributes:
        width, height: in pixels; larger ones are taken as 2500, and no image is enlarged.
        resize: `cover` fills the size and cuts off what projects, `contain` fits into it, `fill`
            stretches.
        quality: of formats that lose something.
        format: `origin` keeps the format; else a client that takes WebP gets that.
    """

    height: OptionalWhole = Field(None, ge=0)
    width: OptionalWhole = Field(None, ge=0)
    resize: Annotated[Literal["cover", "contain", "fill"], AS_TEXT] = "cover"
    format: Annotated[Literal["origin", "webp", "avif"] | None, AS_TEXT] = None
    quality: Whole = Field(DEFAULT_QUALITY, ge=20, le=100)

    @property
    def description(self) -> str:
        """What is asked for, as upstream says it in `X-Transformations`."""
        sides = (("height", self.height), ("width", self.width))
        parts = [f"{name}:{min(side, MAX_SIDE)}" for name, side in sides if side]
        if parts:
            parts.append(f"resizing_type:{_RESIZING_TYPES[self.resize]}")
        if "quality" in self.model_fields_set:
            parts.append(f"quality:{self.quality}")
        if self.format not in (None, "origin"):
            parts.append(f"format:{self.format}")
        return ",".join(parts)


class ImageRenderer:
    """Renders images, two at a time, with few waiting; who waits holds nothing of an image.

    Args:
        is_enabled: whether images are transformed at all.
    """

    def __init__(self, is_enabled: bool) -> None:
        self.is_enabled = is_enabled
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="images")
        self._free = asyncio.Semaphore(WORKERS)
        self._waiting = 0

    def check_available(self) -> None:
        """Raise FeatureNotEnabled where the library for images is missing."""
        if find_spec("PIL") is None:
            raise FeatureNotEnabled(
                "Image transformation needs Pillow: pip install 'amphibase[images]'"
            )

    async def render(
        self, read: Callable[[], Awaitable[bytes]], wanted: Transformation, takes_webp: bool
    ) -> tuple[bytes, str]:
        """Return an image transformed, and its type.

        Args:
            read: reads the source, when its turn has come.
            takes_webp: whether the client shows WebP.

        Raises:
            StorageError: it is no image that can be transformed, or too large.
            TooManyRequests: many others are being transformed.
            Unavailable: it took too long.
        """
        running: asyncio.Future[tuple[bytes, str]] | None = None
        try:
            async with asyncio.timeout(MAX_SECONDS):
                await self._take_turn()
                try:
                    source = await read()
                    loop = asyncio.get_running_loop()
                    running = loop.run_in_executor(
                        self._threads, _render, source, wanted, takes_webp
                    )
                    return await asyncio.shield(running)
                finally:
                    # A thread that is given up goes on, and has its turn until it ends.
                    if running is None or running.done():
                        self._free.release()
                    else:
                        running.add_done_callback(lambda _: self._free.release())
        except TimeoutError:
            raise Unavailable("The image took too long to transform") from None

    async def _take_turn(self) -> None:
        if self._waiting >= MAX_WAITING:
            raise TooManyRequests("Many images are being transformed; try again")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _render(source: bytes, wanted: Transformation, takes_webp: bool) -> tuple[bytes, str]:
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(source), formats=[*FORMATS]) as image:
            kind = _checked_format(image)
            if kind == "JPEG" and wanted.width and wanted.height:
                # Decoded in a half, a quarter or an eighth already, where that is enough.
                longest = max(wanted.width, wanted.height)
                image.draft("RGB", (longest, longest))
            upright = ImageOps.exif_transpose(image)
            resized = _resized(_in_colours(upright), wanted)
            # A profile is of the colours that it was made for.
            profile = image.info.get("icc_profile") if resized.mode == upright.mode else None
        written = _format_of(kind, wanted, takes_webp)
        if written == "JPEG" and resized.mode == "RGBA":
            resized = resized.convert("RGB")
        # Nothing that the file says beside the picture, such as the place where it was taken.
        resized.info.clear()
        output = BytesIO()
        options: dict[str, Any] = {"speed": AVIF_SPEED} if written == "AVIF" else {}
        resized.save(output, written, quality=wanted.quality, icc_profile=profile, **options)
    except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError):
        raise InvalidStorageRequest(UNREADABLE) from None
    return output.getvalue(), FORMATS[written]


def _checked_format(image: "Image") -> Format:
    """Return the format of an image that is not decoded yet. Raises StorageError."""
    if image.width * image.height > MAX_SOURCE_PIXELS:
        raise EntityTooLarge(f"The image has over {MAX_SOURCE_PIXELS // 1_000_000} million pixels")
    if getattr(image, "is_animated", False):
        raise InvalidStorageRequest("Images that move are not transformed")
    kind: Format | None = next((kind for kind in FORMATS if kind == image.format), None)
    if kind is None:
        raise InvalidStorageRequest(UNREADABLE)
    return kind


def _in_colours(image: "Image") -> "Image":
    if image.mode in ("RGB", "RGBA", "L"):
        return image
    return image.convert("RGBA" if "A" in image.mode or "transparency" in image.info else "RGB")


def _resized(image: "Image", wanted: Transformation) -> "Image":
    """Return a copy of an image in another size; no side is longer than `MAX_SIDE`."""
    from PIL import Image, ImageOps

    width = min(wanted.width or MAX_SIDE, image.width, MAX_SIDE)
    height = min(wanted.height or MAX_SIDE, image.height, MAX_SIDE)
    if wanted.resize == "fill":
        return image.resize((width, height), Image.Resampling.LANCZOS)
    if wanted.resize == "cover" and wanted.width and wanted.height:
        return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    fitting = image.copy()
    fitting.thumbnail((width, height), Image.Resampling.LANCZOS)
    return fitting


def _format_of(kind: Format, wanted: Transformation, takes_webp: bool) -> Format:
    match wanted.format:
        case "origin":
            return kind
        case "webp":
            return "WEBP"
        case "avif":
            return "AVIF"
    return "WEBP" if takes_webp else kind
