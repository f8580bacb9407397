"""python -m tests.packaging FOLDER: performs the Dockerfile in FOLDER, which stands for the image's root, and starts what it made.

There is no engine to build the image; what can go wrong in its steps (a file that is not copied, a dependency that has no
wheel, an entry point that does not start, a user who may not read) goes wrong here too. Leaves FOLDER/opt/jobrunner.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def instructions() -> Iterator[tuple[str, str]]:
    """The Dockerfile's instructions in order: (name, the rest of the line)."""
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, rest


def build(image: Path) -> None:
    """The first stage: COPY and RUN, with absolute paths below *image*."""
    where, stages = image, 0
    for name, rest in instructions():
        stages += name == "FROM"
        if stages > 1:
            return
        match name:
            case "WORKDIR":
                where = image / rest.lstrip("/")
                where.mkdir(parents=True)
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    _copy(ROOT / source, where / target if target != "./" else where / source)
            case "RUN":
                command = [_placed(word, image) for word in shlex.split(rest)]
                subprocess.run(command, cwd=where, check=True)


def start(image: Path) -> None:
    """The second stage: its user may read everything, the entry point runs, and the health check's command exists."""
    said = dict(instructions())
    entry, check = json.loads(said["ENTRYPOINT"]), json.loads(said["HEALTHCHECK"].partition("CMD ")[2])
    assert int(said["USER"].partition(":")[0]) > 0, "not root"
    # Not run as that user: the interpreter of the machine that tests may lie in somebody's home.
    closed = [path for path in (image / "opt").rglob("*") if not path.is_symlink() and not path.stat().st_mode & 0o004]
    assert not closed, f"the image's user cannot read {closed[:3]}"
    path = said["ENV"].split()[0].removeprefix("PATH=").replace("$PATH", os.environ["PATH"])
    found = shutil.which(entry[0], path=_placed(path, image))
    assert found is not None and found.startswith(str(image)), found
    environment = {"PATH": _placed(path, image), "JOBRUNNER_DSN": "host=127.0.0.1 port=1 dbname=x"}
    for command, code in ((json.loads(said["CMD"]), 0), (["--version"], 0), (check[1:], 6)):
        ended = subprocess.run(
            [found, *command], env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == code, (command, ended.returncode, ended.stderr)
        assert "Traceback" not in ended.stderr, ended.stderr


def _placed(word: str, image: Path) -> str:
    if word == "python":
        return sys.executable
    return word.replace("/opt/", f"{image}/opt/")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


if __name__ == "__main__":
    image = Path(sys.argv[1]).resolve()
    image.chmod(0o755)
    build(image)
    start(image)
