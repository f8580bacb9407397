"""The status of jobrunner over HTTP: `create_app` makes an ASGI app that any other can mount."""

from jobrunner.ops.http.app import create_app

__all__ = ["create_app"]
