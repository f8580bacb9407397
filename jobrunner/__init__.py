"""jobrunner: an outbox and job runner that needs only PostgreSQL."""

from jobrunner.policy.backoff import Backoff
from jobrunner.policy.envelope import Envelope
from jobrunner.policy.events import Event
from jobrunner.policy.models import Job
from jobrunner.policy.outcomes import Cancel, Reject, Retry, Snooze
from jobrunner.policy.saga import Effects, Saga
from jobrunner.version import VERSION as __version__
from jobrunner.worker.app import App
from jobrunner.worker.context import Context
from jobrunner.worker.runner import Runner
from jobrunner.worker.stream import Stream
from jobrunner.worker.subscription import Subscription
from jobrunner.worker.task import Task

__all__ = [
    "App",
    "Backoff",
    "Cancel",
    "Context",
    "Effects",
    "Envelope",
    "Event",
    "Job",
    "Reject",
    "Retry",
    "Runner",
    "Saga",
    "Snooze",
    "Stream",
    "Subscription",
    "Task",
    "__version__",
]
