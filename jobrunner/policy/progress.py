"""How far a job is: counts and two instants in, percentage, rate and estimate out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from jobrunner.policy.payload import Json


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, the same everywhere it is shown."""

    total: int | None
    """Items to do, where known."""
    processed: int
    """Items done, the failed ones counted."""
    failed: int
    """Items that failed."""
    percentage: float | None
    """0 to 100 with one decimal; None while the total is unknown or 0. 100 only when all is processed."""
    rate: float | None
    """Items per second since the start, two decimals."""
    estimated_completion: datetime | None
    """At this rate; None where there is nothing to estimate by, or nothing left."""
    message: str | None
    """What the handler says it is doing."""

    @classmethod
    def compute(
        cls,
        total: int | None,
        processed: int,
        failed: int,
        message: str | None,
        started_at: datetime,
        now: datetime,
    ) -> Progress:
        """The progress at *now* of work begun at *started_at* (both aware)."""
        seconds = (now - started_at).total_seconds()
        rate = processed / seconds if seconds > 0 else None
        return cls(
            total=total,
            processed=processed,
            failed=failed,
            percentage=_percentage(total, processed),
            rate=None if rate is None else round(rate, 2),
            estimated_completion=_estimate(total, processed, rate, now),
            message=message,
        )

    def as_json(self) -> dict[str, Json]:
        """The fields by name; the instant as ISO 8601."""
        done_at = self.estimated_completion
        return {
            "total": self.total,
            "processed": self.processed,
            "failed": self.failed,
            "percentage": self.percentage,
            "rate": self.rate,
            "estimated_completion": None if done_at is None else done_at.isoformat(),
            "message": self.message,
        }


def _percentage(total: int | None, processed: int) -> float | None:
    if total is None or total <= 0:
        return None
    if processed >= total:
        return 100.0
    return min(99.9, round(max(processed, 0) / total * 100, 1))  # 999,999 of 1,000,000 is not yet 100 %


def _estimate(total: int | None, processed: int, rate: float | None, now: datetime) -> datetime | None:
    if total is None or rate is None or rate <= 0 or processed >= total:
        return None
    try:
        return now + timedelta(seconds=(total - processed) / rate)
    except OverflowError:  # past the year 9999
        return None
