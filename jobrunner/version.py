"""The version of this library."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("jobrunner")
except PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = "0+unknown"
