"""The command `jobrunner`: data on stdout, talk on stderr, `--json` everywhere, exit codes as in `jobrunner.errors`."""

from jobrunner.ops.cli.main import main

__all__ = ["main"]
