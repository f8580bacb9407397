"""What reaches a user: the wheel has the SQL, the types and the command, and nothing else. `.ci/run` runs it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_has_every_sql_file_inside_the_package(wheel: zipfile.ZipFile) -> None:
    """The loader looks there first; in a checkout it finds them beside the package."""
    ours = {str(Path("jobrunner") / path.relative_to(ROOT)) for path in (ROOT / "sql").rglob("*.*") if path.is_file()}

    assert ours == {name for name in wheel.namelist() if name.startswith("jobrunner/sql/")}
    assert "jobrunner/sql/schema.sql" in ours


def test_the_wheel_has_types_command_and_licence_but_no_tests(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]

    assert "jobrunner/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "jobrunner = jobrunner.ops.cli:main" in wheel.read(entry_points).decode()
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"jobrunner"}
