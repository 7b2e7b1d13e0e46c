"""Images in another size or format."""

import asyncio
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms
from tests.gateway.storage.api import ANN, Api, rejection

from amphibase.errors import TooManyRequests
from amphibase.gateway.storage import images

WIDE = (200, 100)

UNREADABLE = "The source image is invalid or unsupported for rendering"


def picture(
    kind: str = "PNG", size: tuple[int, int] = WIDE, mode: str = "RGB", **save: Any
) -> bytes:
    """Left half red, right half blue."""
    image = Image.new(mode, size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    output = BytesIO()
    image.save(output, kind, **save)
    return output.getvalue()


async def upload(api: Api, content: bytes, path: str = "b/a.png", kind: str = "image/png") -> None:
    response = await api.upload(path, content, kind=kind)
    assert response.status_code == 200, response.text


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("width=50", (50, 25)),
        ("height=50", (100, 50)),
        ("width=50&height=50", (50, 50)),
        ("width=50&height=50&resize=contain", (50, 25)),
        ("width=50&height=50&resize=fill", (50, 50)),
        ("width=50&resize=fill", (50, 100)),
        ("width=1000", WIDE),
        ("", WIDE),
    ],
)
async def test_an_image_comes_in_the_size_that_is_wanted(
    api: Api, query: str, size: tuple[int, int]
) -> None:
    await api.bucket(public=True)
    await upload(api, picture())
    response = await api.get(f"/render/image/public/b/a.png?{query}", token=None)
    assert response.status_code == 200, response.text
    image = opened(response.content)
    assert (image.size, image.format, response.headers["content-type"]) == (
        size,
        "PNG",
        "image/png",
    )
    left, right = image.getpixel((1, 1)), image.getpixel((size[0] - 2, 1))
    assert (left, right) == ((255, 0, 0), (0, 0, 255))


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("width=50", "image/webp,*/*", "WEBP"),
        ("width=50&format=origin", "image/webp,*/*", "JPEG"),
        ("width=50", "*/*", "JPEG"),
        ("format=avif", "*/*", "AVIF"),
    ],
)
async def test_a_client_that_takes_webp_gets_it(
    api: Api, query: str, accept: str, kind: str
) -> None:
    await api.bucket(public=True)
    await upload(api, picture("JPEG"), "b/a.jpg", "image/jpeg")
    response = await api.get(
        f"/render/image/public/b/a.jpg?{query}", token=None, headers={"accept": accept}
    )
    assert opened(response.content).format == kind
    assert response.headers["content-type"] == f"image/{kind.lower()}"
    assert response.headers["vary"] == "Accept"


async def test_an_unchanged_image_is_not_rendered_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.bucket(public=True)
    await upload(api, picture())
    path = "/render/image/public/b/a.png?width=50"
    tag = (await api.get(path)).headers["etag"]
    assert tag != (await api.get("/render/image/public/b/a.png?width=60")).headers["etag"]
    with monkeypatch.context() as patch:
        patch.setattr(images, "_render", None)
        assert (await api.get(path, headers={"if-none-match": tag})).status_code == 304
    await upload(api, picture(size=(20, 20)), "b/b.png")
    await api.delete("/object/b/a.png")
    await upload(api, picture(size=(20, 20)))
    assert (await api.get(path, headers={"if-none-match": tag})).status_code == 200


async def test_a_private_image_follows_its_policies(api: Api) -> None:
    await api.bucket()
    await upload(api, picture())
    path = "/render/image/authenticated/b/a.png?width=50"
    assert (await api.get(path)).status_code == 200
    assert rejection(await api.get(path, token=api.token(ANN)))[1] == "404"
    hidden = await api.get("/render/image/public/b/a.png?width=50", token=None)
    assert rejection(hidden)[1] == "404"


async def test_a_signed_url_opens_the_form_that_was_signed_and_no_other(api: Api) -> None:
    await api.bucket()
    await upload(api, picture())
    body = {"expiresIn": 60, "transform": {"width": 50, "resize": "contain"}}
    url = (await api.post("/object/sign/b/a.png", body)).json()["signedURL"]
    assert url.startswith("/render/image/sign/b/a.png?token=")
    response = await api.get(f"{url}&width=200", token=None)
    assert opened(response.content).size == (50, 25)
    original = url.replace("/render/image/sign", "/object/sign")
    assert rejection(await api.get(original, token=None))[2] == "InvalidSignature"


@pytest.mark.parametrize("transform", [{"format": "origin"}, {"resize": "fill"}, {"width": 0}])
async def test_a_form_that_changes_nothing_is_signed_as_the_original(
    api: Api, transform: dict[str, Any]
) -> None:
    await api.bucket()
    await upload(api, picture())
    body = {"expiresIn": 60, "transform": transform}
    url = (await api.post("/object/sign/b/a.png", body)).json()["signedURL"]
    assert url.startswith("/object/sign/b/a.png?token=")
    assert (await api.get(url, token=None)).content == picture()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side: to be turned by 90 degrees
    exif[0x8825] = {1: "N"}  # where it was taken
    return picture("JPEG", exif=exif)


async def test_an_image_stands_upright_and_says_nothing_beside_the_picture(api: Api) -> None:
    await api.bucket(public=True)
    await upload(api, rotated(), "b/a.jpg", "image/jpeg")
    response = await api.get("/render/image/public/b/a.jpg?width=50&format=origin")
    image = opened(response.content)
    assert (image.size, dict(image.getexif())) == ((50, 100), {})


@pytest.mark.parametrize(
    ("transform", "description"),
    [
        ({}, None),
        ({"width": 0}, None),
        ({"quality": 70}, "quality:70"),
        ({"width": 50, "format": "origin"}, "width:50,resizing_type:fill"),
        (
            {"width": 60, "height": 50, "resize": "contain", "quality": 70, "format": "avif"},
            "height:50,width:60,resizing_type:fit,quality:70,format:avif",
        ),
        ({"height": 3000, "resize": "fill"}, "height:2500,resizing_type:force"),
    ],
)
async def test_a_header_says_how_an_image_was_changed(
    api: Api, transform: dict[str, Any], description: str | None
) -> None:
    await api.bucket(public=True)
    await upload(api, picture())
    query = "&".join(f"{name}={value}" for name, value in transform.items())
    response = await api.get(f"/render/image/public/b/a.png?{query}", token=None)
    assert response.headers.get("x-transformations") == description


async def test_an_image_that_is_wider_than_any_is_shown_smaller(api: Api) -> None:
    await api.bucket(public=True)
    await upload(api, picture(size=(17_000, 10)))
    response = await api.get("/render/image/public/b/a.png", headers={"accept": "image/webp"})
    assert opened(response.content).width == 2500


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
async def test_comments_are_left_out(api: Api, kind: str) -> None:
    await api.bucket(public=True)
    await upload(api, picture(kind, comment=b"SECRET"))
    response = await api.get("/render/image/public/b/a.png?format=origin")
    assert opened(response.content).format == kind
    assert b"SECRET" not in response.content


async def test_a_profile_is_kept_where_the_colours_are_its_own(api: Api) -> None:
    await api.bucket(public=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode, kept in (("RGB", profile), ("CMYK", None)):
        image = Image.new(mode, (10, 10))
        output = BytesIO()
        image.save(output, "JPEG", icc_profile=profile)
        await upload(api, output.getvalue(), f"b/{mode}.jpg", "image/jpeg")
        response = await api.get(f"/render/image/public/b/{mode}.jpg")
        assert opened(response.content).info.get("icc_profile") == kept


async def test_who_waits_for_a_turn_has_read_nothing_yet(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = threading.Event()
    monkeypatch.setattr(images, "_render", lambda *_: (ready.wait(60), (b"", "image/png"))[1])
    renderer = images.ImageRenderer(is_enabled=True)
    read: list[int] = []

    async def source() -> bytes:
        read.append(1)
        return b""

    async def render() -> None:
        await renderer.render(source, images.Transformation(), False)

    running = [asyncio.create_task(render()) for _ in range(images.WORKERS + images.MAX_WAITING)]
    await asyncio.sleep(0.1)
    assert len(read) == images.WORKERS
    with pytest.raises(TooManyRequests):
        await render()
    running[0].cancel()  # whose thread goes on, and keeps its turn
    await asyncio.sleep(0.1)
    assert len(read) == images.WORKERS
    ready.set()
    await asyncio.gather(*running, return_exceptions=True)
    assert len(read) == images.WORKERS + images.MAX_WAITING
    renderer.close()


def moving() -> bytes:
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue")]
    output = BytesIO()
    frames[0].save(output, "GIF", save_all=True, append_images=frames[1:])
    return output.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (moving(), "Images that move are not transformed"),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            UNREADABLE,
        ),
        (picture(size=(20, 20))[:60], UNREADABLE),
        (picture("BMP"), UNREADABLE),
        (picture(size=(60, 60)), "The image has over"),
    ],
    ids=["moving", "svg", "cut", "another format", "large"],
)
async def test_what_is_too_large_or_no_picture_is_rejected(
    api: Api, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_SOURCE_PIXELS", 3000)
    await api.bucket(public=True)
    await upload(api, content)
    response = await api.get("/render/image/public/b/a.png?width=5")
    assert response.status_code == 400
    assert response.json()["message"].startswith(message)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("width=-1", "querystring/width must be >= 0"),
        ("width=x", "querystring/width must be integer"),
        ("width=1&width=2", "querystring/width must be integer"),
        ("quality=101", "querystring/quality must be <= 100"),
        ("resize=other", "querystring/resize must be equal to one of the allowed values"),
    ],
)
async def test_a_form_that_is_none_is_named(api: Api, query: str, message: str) -> None:
    await api.bucket(public=True)
    await upload(api, picture())
    response = await api.get(f"/render/image/public/b/a.png?{query}")
    assert (response.status_code, response.json()["message"]) == (400, message)


async def test_it_can_be_switched_off(serve: Any, tmp_path: Path) -> None:
    api = await serve(image_transformation_enabled=False)
    await api.bucket(public=True)
    await upload(api, picture())
    response = await api.get("/render/image/public/b/a.png?width=5")
    assert (response.status_code, response.json()) == (
        404,
        {
            "message": "Route GET:/render/image/public/b/a.png?width=5 not found",
            "error": "Not Found",
            "statusCode": "404",
            "code": "InvalidRequest",
        },
    )
    body = {"expiresIn": 60, "transform": {"width": 50}}
    url = (await api.post("/object/sign/b/a.png", body)).json()["signedURL"]
    assert url.startswith("/object/sign/b/a.png?token=")
