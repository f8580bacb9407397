"""procrastinate on jobrunner's tables: `procrastinate.App(connector=JobrunnerConnector(…))`. See docs/procrastinate.md."""

from jobrunner.procrastinate.connector import JobrunnerConnector, SyncJobrunnerConnector

__all__ = ["JobrunnerConnector", "SyncJobrunnerConnector"]
