"""What CI's script does about Debian's packages, with stand-ins for apt and its companions."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.places import REPOSITORY

SCRIPT = REPOSITORY / ".ci" / "system_packages"
WANTED = set(re.findall(r"[a-z][\w.+-]+", SCRIPT.read_text().split("wanted=(")[1].split(")")[0]))


class Machine:
    """A folder of programs. calls: of apt-get, with sudo before it where that was used."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self._calls = folder / "calls"
        for name in ("bash", "env", "timeout"):
            path = shutil.which(name)
            assert path is not None
            (self.bin / name).symlink_to(path)
        self.has("id", "echo 0")
        self.has("apt-get", f'echo "${{WITH:-}}apt-get $*" >> {self._calls}')
        self.has("dpkg-query", "exit 1")
        self.has("sudo", 'shift; WITH="sudo " exec "$@"')
        self.has("true", "exit 0")

    def has(self, name: str, script: str) -> None:
        (self.bin / name).unlink(missing_ok=True)  # not written through a link
        (self.bin / name).write_text(f"#!{self.bin}/bash\n{script}\n")
        (self.bin / name).chmod(0o755)

    def run(self) -> str:
        """What it says, after it succeeded."""
        done = subprocess.run(
            [str(self.bin / "bash"), str(SCRIPT)],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "")
        return done.stderr

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.is_file() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("user", [0, 1000])
def test_what_is_missing_is_installed(machine: Machine, user: int) -> None:
    machine.has("id", f"echo {user}")
    machine.has("dpkg-query", '[ "${@: -1}" != cmake ] || echo installed')
    assert machine.run() == ""
    words = [call.split() for call in machine.calls]
    assert {call[0] for call in words} == {"sudo" if user else "apt-get"}
    verbs = [next(word for word in call if word in ("update", "install")) for call in words]
    assert verbs == ["update", "install", "install"]
    assert ["--download-only" in call for call in words] == [False, True, False]
    assert set(words[-1]) & WANTED == WANTED - {"cmake"}


def test_where_all_is_there_nothing_is_done(machine: Machine) -> None:
    machine.has("dpkg-query", "echo installed")
    assert machine.run() == ""
    assert machine.calls == []


def test_a_package_of_which_only_settings_are_left_is_missing(machine: Machine) -> None:
    machine.has("dpkg-query", "echo config-files")
    machine.run()
    assert set(machine.calls[-1].split()) >= WANTED


@pytest.mark.parametrize("fails", ["*download-only*", "*install*"])
def test_a_failure_of_apt_is_told_and_is_none_of_ci(machine: Machine, fails: str) -> None:
    machine.has("apt-get", f'case "$*" in {fails}) exit 100;; esac')
    said = machine.run()
    assert said.startswith("system packages: cmake g++ ")
    assert said.endswith("could not be installed; tests that need them skip\n")


def test_older_lists_may_do_where_new_ones_cannot_be_had(machine: Machine) -> None:
    calls = machine.bin.parent / "calls"
    machine.has("apt-get", f'case "$*" in *update) exit 100;; *) echo "$*" >> {calls};; esac')
    assert machine.run() == ""
    assert len(machine.calls) == 2


def test_it_does_not_wait_for_servers_that_do_not_answer(machine: Machine) -> None:
    machine.has("timeout", f'echo "timeout $*" >> {machine.bin.parent / "calls"}; exit 124')
    assert "servers do not answer" in machine.run()
    assert len(machine.calls) == 1


def test_elsewhere_it_says_why_nothing_is_done(machine: Machine) -> None:
    machine.has("id", "echo 1000")
    machine.has("sudo", "exit 1")
    assert "sudo asks for a password" in machine.run()
    (machine.bin / "apt-get").unlink()
    assert "there is no apt here" in machine.run()


def test_the_pages_name_the_same_packages() -> None:
    pages = "".join(
        (REPOSITORY / "docs" / f"{name}.md").read_text() for name in ("cpp", "gstreamer")
    )
    lines = re.findall(r"^    sudo apt install --no-install-recommends (.*)$", pages, re.M)
    named = {word for line in lines for word in line.split()}
    # A test's GStreamer 1.22 has no analytics; make and environments are there wherever CI runs.
    assert named - WANTED == {"make", "python3-venv", "gir1.2-gst-plugins-bad-1.0"}
    assert named >= WANTED
