"""`python -m jobrunner` is the command `jobrunner`."""

from __future__ import annotations

import sys

from jobrunner.ops.cli import main

sys.exit(main())
