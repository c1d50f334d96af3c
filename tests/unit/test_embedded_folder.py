"""The data folder: private, held by one, and with sockets that fit."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from livecart.embedded import DataFolder, processes
from livecart.embedded.child import LOG_BYTES_MAX, bound_log, log_tail
from livecart.embedded.errors import FolderInUse, FolderRefused


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="lc-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def test_new_folder_is_private(base: Path) -> None:
    """A new data folder, and one that was open to others, has mode 700."""
    (base / "open").mkdir(mode=0o755)
    for name in ("new/deeper", "open"):
        folder = DataFolder.open(base / name)
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        folder.close()


def test_second_holder_is_told_who_holds_it(base: Path) -> None:
    """While a process holds the folder, a second one is refused at once with pid and command."""
    code = (
        "import sys; from pathlib import Path; from livecart.embedded import DataFolder; "
        "folder = DataFolder.open(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(base / "d")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FolderInUse, match=rf"in use by pid {holder.pid} \(.*DataFolder"):
            DataFolder.open(base / "d", wait_s=60)
        holder.communicate("")
    DataFolder.open(base / "d").close()


def test_leftover_holder_is_waited_for_then_named(base: Path) -> None:
    """When only a child of a dead holder still has the lock, it is waited for, then named."""
    folder = DataFolder.open(base / "d")
    with subprocess.Popen(["sleep", "60"], pass_fds=(folder.lock_fd,)) as sleeper:
        os.ftruncate(folder.lock_fd, 0)
        os.pwrite(folder.lock_fd, b"2147483647\n", 0)  # as if the holder were gone
        folder.close()
        with pytest.raises(FolderInUse, match=rf"left: pid {sleeper.pid} \(sleep 60\)"):
            DataFolder.open(base / "d", wait_s=0.2)
        sleeper.send_signal(signal.SIGTERM)
        DataFolder.open(base / "d", wait_s=10).close()


def test_foreign_folder_is_refused_untouched(base: Path) -> None:
    """A folder with other things in it is refused and keeps its mode."""
    (base / "home").mkdir(mode=0o755)
    (base / "home" / "letter").write_text("dear")
    with pytest.raises(FolderRefused, match="livecart did not make it"):
        DataFolder.open(base / "home")
    assert stat.S_IMODE((base / "home").stat().st_mode) == 0o755
    with pytest.raises(FolderRefused, match="not a folder"):
        DataFolder.open(base / "home" / "letter")


def test_unusable_place_is_one_line(base: Path) -> None:
    """A place where no folder can be made is refused in one line that names it."""
    (base / "file").write_text("")
    with pytest.raises(FolderRefused, match=rf"{base}/file/d cannot be used") as refused:
        DataFolder.open(base / "file" / "d")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["x" * 90, "a, b", "販売"])
def test_awkward_path_gets_a_short_runtime_folder(base: Path, name: str) -> None:
    """A path too long or too odd for a socket gets a private short folder, the same every time."""
    folder = DataFolder.open(base / name)
    runtime = folder.runtime_folder()
    assert len(os.fsencode(runtime / ".s.PGSQL.5432")) <= 103
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    assert folder.runtime_folder() == runtime
    folder.close()
    again = DataFolder.open(base / name)
    assert again.runtime_folder() == runtime
    again.close()
    shutil.rmtree(runtime)


def test_runtime_folder_of_another_is_not_trusted(base: Path) -> None:
    """A recorded runtime folder that is open to others, a link, or a copy's is replaced."""
    folder = DataFolder.open(base / ("x" * 90))
    first = folder.runtime_folder()
    first.chmod(0o755)
    second = folder.runtime_folder()
    assert second != first
    (folder.path / "runtime_folder").write_text(str(base / "link"))
    (base / "link").symlink_to(second)
    third = folder.runtime_folder()
    assert third not in (second, base / "link")
    shutil.copytree(folder.path, base / ("y" * 90))
    copy = DataFolder.open(base / ("y" * 90))
    fourth = copy.runtime_folder()
    assert fourth != third
    for opened in (folder, copy):
        opened.close()
    for runtime in (first, second, third, fourth):
        shutil.rmtree(runtime)


def test_process_is_told_from_zombie_and_absent() -> None:
    """A zombie and an absent pid count as no process; a running one shows its command."""
    assert processes.look(2**31 - 1) is None
    with subprocess.Popen(["true"]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        assert processes.look(zombie.pid) is None
    myself = processes.look(os.getpid())
    assert myself is not None
    assert "python" in str(myself)


def test_log_is_bounded_with_its_end_kept(base: Path) -> None:
    """A log over its bound moves its last part aside; the tail shows the newest lines."""
    log = base / "a.log"
    log.write_bytes(b"old\n" + b"x" * LOG_BYTES_MAX + b"\nlast line\n")
    assert log_tail(log).endswith("last line")
    bound_log(log)
    assert log.stat().st_size == 0
    kept = (base / "a.log.1").read_bytes()
    assert len(kept) == LOG_BYTES_MAX
    assert kept.endswith(b"last line\n")
    assert log_tail(base / "absent.log") == ""
