"""Who PostgreSQL runs as, and how that user finds its way: PostgreSQL refuses to run as root."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict


class Account(TypedDict):
    """Arguments of subprocess: all None for "as we are"."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


def account_for(data: Path) -> Account:
    if os.geteuid() != 0:
        return Account(user=None, group=None, extra_groups=None)
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(user=owner.st_uid, group=owner.st_gid, extra_groups=[])
    nobody = pwd.getpwnam("nobody")
    return Account(user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])


@contextlib.contextmanager
def path_for_server(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """A path of *folder* for a child, and the descriptors to pass.

    As root the child is another user, to whom the folders above may be closed (/root, a 0700 temporary directory).
    Through an open descriptor it needs no right to any of them, and nothing has to be made more open.
    """
    if os.geteuid() != 0 or not Path("/proc/self/fd").exists():
        yield str(folder), []
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{fd}", [fd]
    finally:
        os.close(fd)
