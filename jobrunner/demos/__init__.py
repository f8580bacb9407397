"""Whole systems built on jobrunner, one package each; `jobrunner demo NAME` runs one."""
