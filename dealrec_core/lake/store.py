"""How a folder or an S3 bucket is reached: options for the two libraries that read and write there."""

import os
from typing import Any

SUMS = "sha256sums.json"
"""The hashes of a published folder, its last file: a folder without them is unfinished."""


def fsspec_options(uri: str) -> dict[str, Any]:
    """Returns fsspec's options: endpoint and addressing for S3, none for folders. They come from the variables that delta-rs reads."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if not uri.startswith("s3://"):
        return {}
    fresh = {"use_listings_cache": False}  # another process, of a night in pools or on Ray, writes there too
    if not endpoint:
        return fresh
    is_virtual = os.environ.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() in ("1", "true")
    style = "virtual" if is_virtual else "path"
    return {**fresh, "endpoint_url": endpoint, "config_kwargs": {"s3": {"addressing_style": style}}}


def s3_options(root: str) -> dict[str, str] | None:
    """Returns delta-rs' options: conditional puts for S3, None for folders."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if not root.startswith("s3://"):
        return None
    return {"aws_conditional_put": "etag", **({"aws_allow_http": "true"} if endpoint.startswith("http://") else {})}


def line(error: BaseException) -> str:
    """Returns the first line of an error's text, at most 300 letters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
