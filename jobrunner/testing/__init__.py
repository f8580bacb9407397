"""For the tests of your services: run what they enqueued and published, inside the test's own transaction, and look at it.

    pay(conn, order_id)                                          # the code under test; nothing is committed

    assert_published(OrderPaid, key=str(order_id))
    assert drain(conn, app) == Drained(succeeded=2)              # runs the handlers here and now
    assert_enqueued(send_receipt.job(order_id=order_id))
    assert drain(conn, app, until="5m").succeeded == 1           # and what comes due within five minutes

Everything happens on one connection and goes with its rollback. docs/testing.md is the guide; the pytest fixtures are in `plugin`.
"""

from jobrunner.testing.assertions import assert_enqueued, assert_published, refute_enqueued, refute_published
from jobrunner.testing.connections import use
from jobrunner.testing.draining import drain
from jobrunner.testing.inlining import inline
from jobrunner.testing.results import Drained, Enqueued, Run

__all__ = [
    "Drained",
    "Enqueued",
    "Run",
    "assert_enqueued",
    "assert_published",
    "drain",
    "inline",
    "refute_enqueued",
    "refute_published",
    "use",
]
