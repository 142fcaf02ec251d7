"""`pip install .`: the wheel holds everything that the commands need, and runs go to the current folder."""

import json
import os
import shutil
import site
import socket
import subprocess
import sys
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from resonance.paths import PROJECT_ROOT

pytestmark = pytest.mark.slow  # a wheel is built and installed, a model trained and served

SOURCES = ("resonance", "data", "train", "serve", "eval", "configs", "pyproject.toml", "README.md", "LICENSE")
SMALL = ("data.train_size=100", "data.validation_size=10", "data.test_size=10", "callbacks.samples.every_n_steps=0")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the checkout, built without a network."""
    if not (PROJECT_ROOT / "serve" / "web" / "dist" / "index.html").is_file():
        pytest.fail("The page is not built; run `make web`.")
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, target = PROJECT_ROOT / name, folder / "checkout" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
        else:
            shutil.copy(source, target)
    pip("wheel", "--no-build-isolation", f"--wheel-dir={folder}", str(folder / "checkout"))
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `resonance` of an environment with this wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    pip("--python", str(folder / "bin" / "python"), "install", str(wheel))
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return folder / "bin" / "resonance"


@pytest.fixture(scope="module")
def elsewhere(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the checkout in which the installed command has trained the demo for two steps."""
    folder = tmp_path_factory.mktemp("elsewhere")
    run(installed, folder, "train", "experiment=demo", "trainer.max_steps=2", "run=two-steps", *SMALL)
    return folder


def pip(*arguments: str) -> None:
    offline = ("--no-deps", "--no-index", "--quiet")
    subprocess.run([sys.executable, "-m", "pip", *arguments, *offline], env=environment(), check=True, timeout=120)


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(command: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run([command, *arguments], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_configs_corpora_kernels_and_the_page(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for pattern in (
        "configs/**/*.yaml",
        "eval/corpora/**/*.*",
        "eval/report/templates/*",
        "resonance/engine/kernels/csrc/*",
        "serve/web/dist/**/*.*",
    ):
        files = [path.relative_to(PROJECT_ROOT).as_posix() for path in PROJECT_ROOT.glob(pattern) if path.is_file()]
        assert files
        assert not set(files) - names
    assert not [name for name in names if "node_modules" in name or name.startswith(("tests/", "serve/web/src/"))]


def test_runs_of_an_installation_go_to_the_current_folder(installed: Path, elsewhere: Path) -> None:
    assert "\n  train " in run(installed, elsewhere, "--help")
    (checkpoint,) = json.loads(run(installed, elsewhere, "checkpoints", "json=true"))
    assert checkpoint["folder"] == str(elsewhere / "checkpoints" / "two-steps")
    assert checkpoint["steps"] == 2
    metadata = json.loads((elsewhere / "checkpoints" / "two-steps" / "resonance.json").read_text())
    assert metadata["git_commit"] is None


def test_an_installation_chats(installed: Path, elsewhere: Path) -> None:
    run(installed, elsewhere, "chat", "checkpoint=latest", "prompt=Hello!", "max_new_tokens=4", "temperature=0")


def test_an_installation_serves_the_page(installed: Path, elsewhere: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    database = f"store.url=sqlite+aiosqlite:///{elsewhere}/conversations.sqlite"
    command = [installed, "serve", "checkpoint=latest", f"port={port}", "auth=none", "log=error", database]
    server = subprocess.Popen(command, cwd=elsewhere, env=environment(), stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while (health := get(port, "/health")) is None and time.monotonic() < deadline and server.poll() is None:
            time.sleep(0.2)
        assert health is not None
        assert json.loads(health)["model"]["id"] == "two-steps"
        assert b'<div id="root">' in (get(port, "/") or b"")
    finally:
        server.terminate()
        server.wait(60)


def get(port: int, path: str) -> bytes | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.read()
    except OSError:
        return None
