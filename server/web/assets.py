"""The files that pages load: our own, and an allow-list of files from packages. Compressed once, cached for ever.

Each address holds a hash of the content, so a changed file has another address. Files from packages come from
``node_modules`` (`server.packages` puts them there); a page is complete without them.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flask import Response, request, url_for
from werkzeug.exceptions import NotFound

from server.security.roles import public
from server.web.shell import web

_FOLDER = Path(__file__).parent
_PACKAGES = _FOLDER / "node_modules"
_OWN = {path.name: path for path in sorted((_FOLDER / "static").iterdir()) if path.suffix in {".css", ".js", ".svg"}}
FROM_PACKAGES = {
    "idiomorph.js": _PACKAGES / "idiomorph" / "dist" / "idiomorph.min.js",
    "charts.js": _PACKAGES / "lightweight-charts" / "dist" / "lightweight-charts.standalone.production.js",
}
_FILES = {**_OWN, **FROM_PACKAGES}
_FOR_EVER = "public, max-age=31536000, immutable"
_WORTH_COMPRESSING = 1000
_COMPRESSED_PAGES = {"text/html", "text/csv", "text/plain"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file as it is sent: *version* is a hash of its content."""

    content: bytes
    compressed: bytes
    version: str
    mimetype: str


@cache
def load_asset(path: Path) -> Asset:
    """Read and compress the file, once per process. Raises ``OSError``."""
    content = path.read_bytes()
    return Asset(
        content=content,
        compressed=gzip.compress(content, 9, mtime=0),
        version=hashlib.sha256(content).hexdigest()[:12],
        mimetype=mimetypes.guess_type(path.name)[0] or "application/octet-stream",
    )


def are_missing() -> bool:
    """Whether the files from packages are not installed."""
    return not all(path.is_file() for path in FROM_PACKAGES.values())


@web.app_template_global("asset")
def asset_url(name: str) -> str | None:
    """The address of the file with this public name; None if its package is not installed."""
    try:
        return url_for("web.asset", name=name, v=load_asset(_FILES[name]).version)
    except FileNotFoundError:
        return None


@web.get("/assets/<name>")
@public
def asset(name: str) -> Response:
    """A file of the allow-list, compressed for whoever takes that."""
    if name not in _FILES:
        raise NotFound
    try:
        found = load_asset(_FILES[name])
    except OSError:
        raise NotFound from None
    packed = _takes_gzip()
    response = Response(found.compressed if packed else found.content, mimetype=found.mimetype)
    response.headers["Cache-Control"] = _FOR_EVER if request.args.get("v") == found.version else "no-cache"
    response.vary.add("Accept-Encoding")
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    return response


def compress(response: Response) -> Response:
    """*response* compressed, if it is a page or a list that is worth it and not a stream."""
    if response.mimetype not in _COMPRESSED_PAGES or response.is_streamed or response.direct_passthrough:
        return response
    response.vary.add("Accept-Encoding")
    body = response.get_data()
    if len(body) >= _WORTH_COMPRESSING and "Content-Encoding" not in response.headers and _takes_gzip():
        response.set_data(gzip.compress(body, 5, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    return response


def _takes_gzip() -> bool:
    return request.accept_encodings["gzip"] > 0
