"""As whom the servers run: an ordinary user, root in a namespace, root as `nobody`."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from livecart.embedded import child
from livecart.embedded.binaries import find_postgres
from livecart.embedded.child import NAMESPACE, SELF, Identity
from livecart.embedded.errors import FolderRefused
from livecart.embedded.folder import DataFolder
from livecart.embedded.identity import choose_identity

_UP = Path(__file__).with_name("embedded_up.py")
_ROOT = Path(__file__).parents[2]

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a choice")


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder with a short path that anyone may enter."""
    folder = Path(tempfile.mkdtemp(prefix="lc-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _nobody() -> Identity:
    entry = pwd.getpwnam("nobody")
    return Identity("user", entry.pw_uid, entry.pw_gid)


def _runs(argv: Sequence[str | Path], identity: Identity) -> bool:
    return child.run_to_end(argv, identity=identity, cwd=Path("/")).returncode == 0


def _environment() -> dict[str, str]:
    wheels = [path for path in sys.path if path.endswith("site-packages")]
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(_ROOT), *wheels])}


def _up_once(python: str, data_dir: Path, identity: Identity, *flags: str) -> dict[str, int]:
    """Run the stand-alone `up` as `identity` until it is ready, stop it; return its pids."""
    argv = [python, str(_UP), str(data_dir), *flags]
    with subprocess.Popen(
        child.launch_command(argv, die_signal=signal.SIGTERM, identity=identity),
        stdout=subprocess.PIPE,
        env=_environment(),
        cwd="/",
        text=True,
    ) as up:
        assert up.stdout is not None
        pids: dict[str, int] = json.loads(up.stdout.readline())["pids"]
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in pids.values()}
        up.send_signal(signal.SIGTERM)
        assert up.communicate(timeout=30)[0] == "stopped\n"
    assert up.returncode == 0
    return dict.fromkeys(["uid"], owners.pop()) if len(owners) == 1 else {}


def _python_of_nobody() -> str:
    """Return a Python that `nobody` can run, or skip; it must be able to read PostgreSQL too."""
    found = (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin"))
    python = next((p for p in found if p and _runs([p, "-c", ""], _nobody())), None)
    if python is None or not _runs([find_postgres().postgres, "--version"], _nobody()):
        pytest.skip("`nobody` can read no Python or no PostgreSQL here")
    return python


def test_ordinary_user(base: Path) -> None:
    """Without root nothing is chosen and nothing changes owner; two runs serve."""
    identity = SELF
    if os.geteuid() == 0:
        if not _runs(["/bin/true"], NAMESPACE):
            pytest.skip("root cannot play an ordinary user here")
        identity = NAMESPACE  # in there we are uid 65534, with all the rights of our own files
    for _ in range(2):
        assert _up_once(sys.executable, base / "d", identity) == {"uid": os.geteuid()}
    assert (base / "d" / "postgres").stat().st_uid == os.geteuid()


@only_root
def test_real_other_user(base: Path) -> None:
    """A user without any right of ours runs both servers, twice, on a folder of its own."""
    python = _python_of_nobody()
    home = base / "home"
    home.mkdir(mode=0o700)
    os.chown(home, _nobody().uid, _nobody().gid)
    for _ in range(2):
        assert _up_once(python, home / "d", _nobody()) == {"uid": _nobody().uid}


@only_root
def test_root_without_namespaces_becomes_nobody(base: Path) -> None:
    """Where namespaces are forbidden, root gives the folder to `nobody`, and keeps to that."""
    if not _runs([find_postgres().postgres, "--version"], _nobody()):
        pytest.skip("`nobody` cannot read PostgreSQL here")
    nobody = {"uid": _nobody().uid}
    assert _up_once(sys.executable, base / "d", SELF, "no-namespace") == nobody
    assert (base / "d" / "postgres").stat().st_uid == _nobody().uid
    assert _up_once(sys.executable, base / "d", SELF) == nobody  # though it could do otherwise


@only_root
def test_root_leaves_a_users_folder_usable(base: Path) -> None:
    """After root ran on an ordinary user's folder, that user can run on it again without root."""
    python = _python_of_nobody()
    home = base / "home"
    home.mkdir(mode=0o700)
    (home / "d").mkdir()
    for path in (home, home / "d"):
        os.chown(path, _nobody().uid, _nobody().gid)
    assert _up_once(sys.executable, home / "d", SELF) == {"uid": _nobody().uid}
    assert _up_once(python, home / "d", _nobody()) == {"uid": _nobody().uid}


@only_root
def test_root_keeps_a_namespace_folder(base: Path) -> None:
    """A folder made in a namespace is not given away later: it is refused with the way out."""
    folder = DataFolder.open(base / "d")
    (folder.path / "postgres").mkdir()
    with pytest.raises(FolderRefused, match=r"chown -R nobody .*/d"):
        choose_identity(folder.path, find_postgres().postgres, namespace=False)
    folder.close()


@only_root
def test_nobody_must_reach_the_folder(base: Path) -> None:
    """Below a private home `nobody` cannot work: root is told so before anything changes owner."""
    (base / "home").mkdir(mode=0o700)
    folder = DataFolder.open(base / "home" / "d")
    with pytest.raises(FolderRefused, match="`nobody` cannot"):
        choose_identity(folder.path, find_postgres().postgres, namespace=False)
    assert folder.path.stat().st_uid == 0
    folder.close()
