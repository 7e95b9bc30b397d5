from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spiderpool.errors import BadConfig, IOFailure
from spiderpool_lab import binaries, go_build
from spiderpool_lab.processes import WITH_PARENT
from tests.support.eventually import wait_until

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program of a lab is to be found anywhere."""
    for variable in ("KUBEBUILDER_ASSETS", "KUBERNETES", "LAB_KERNEL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def cached(tmp_path: Path, program: str, minor: str = "1.37") -> Path:
    """The place of a program in the cache."""
    folder = go_build.KUBERNETES_MODULES[minor]
    return tmp_path / "cache/spiderpool/programs" / go_build.key(folder) / "bin" / program


def test_a_program_that_is_nowhere_is_refused_with_the_remedy() -> None:
    with pytest.raises(IOFailure, match=r"kube-proxy is in none of .* run: .*python -m spiderpool_lab.binaries"):
        binaries.find("kube-proxy")


def test_assets_come_before_path_and_path_before_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = executable(cached(tmp_path, "kube-scheduler"))
    assert binaries.locate("kube-scheduler") == binaries.Location("kube-scheduler", built, "cache")
    on_path = executable(tmp_path / "bin/kube-scheduler")
    assert binaries.locate("kube-scheduler") == binaries.Location("kube-scheduler", on_path, "PATH")
    asset = executable(tmp_path / "assets/kube-scheduler")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(asset.parent))
    assert binaries.locate("kube-scheduler") == binaries.Location("kube-scheduler", asset, "KUBEBUILDER_ASSETS")


def test_assets_need_not_hold_every_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "assets/etcd")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    on_path = executable(tmp_path / "bin/kube-proxy")
    assert binaries.find("kube-proxy") == on_path


def test_kubectl_comes_with_the_environment(tmp_path: Path) -> None:
    executable(tmp_path / "bin/kubectl")
    assert binaries.locate("kubectl") == binaries.Location("kubectl", Path(sys.prefix) / "bin/kubectl", "environment")


def test_a_containerd_of_the_machine_is_not_taken(tmp_path: Path) -> None:
    executable(tmp_path / "bin/containerd")
    assert binaries.locate("containerd") is None


def test_a_chosen_kubernetes_is_the_one_of_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(executable(tmp_path / "assets/kube-proxy").parent))
    asset = executable(tmp_path / "assets/etcd")
    newer, older = executable(cached(tmp_path, "kube-proxy")), executable(cached(tmp_path, "kube-proxy", "1.30"))
    monkeypatch.setenv("KUBERNETES", "1.37")
    assert (binaries.find("kube-proxy"), binaries.find("etcd")) == (newer, asset)
    monkeypatch.setenv("KUBERNETES", "1.30")
    assert (binaries.find("kube-proxy"), binaries.find("etcd")) == (older, asset)


@pytest.mark.parametrize("name", ["1.29", "1.37.2", "v1.30"])
def test_a_kubernetes_without_a_lock_is_refused_with_the_choice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES", name)
    with pytest.raises(BadConfig, match=r"choose one of 1\.37, 1\.30; .*KUBEBUILDER_ASSETS"):
        binaries.find("kube-apiserver")


def test_another_kernel_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = executable(tmp_path / "mine/linux")
    monkeypatch.setenv("LAB_KERNEL", str(kernel))
    assert binaries.locate("linux.uml") == binaries.Location("linux.uml", kernel, "LAB_KERNEL")
    kernel.unlink()
    with pytest.raises(BadConfig, match=r"LAB_KERNEL=.*/linux is no program"):
        binaries.find("linux.uml")


def test_what_is_not_executable_is_not_a_program(tmp_path: Path) -> None:
    executable(cached(tmp_path, "etcd")).chmod(0o644)
    assert binaries.locate("etcd") is None


def test_modules_lie_beside_the_kernel(tmp_path: Path) -> None:
    kernel = executable(tmp_path / "cache/spiderpool/user-mode-linux/usr/bin/linux.uml")
    with pytest.raises(IOFailure, match=r"no modules beside it; name another one in \$LAB_KERNEL"):
        binaries.uml_modules()
    modules = kernel.parent.parent / "lib/uml/modules"
    modules.mkdir(parents=True)
    assert binaries.uml_modules() == modules


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    executable(tmp_path / "bin/etcd")
    assert [location.origin for location in binaries.provide(["etcd"])] == ["PATH"]
    assert not (tmp_path / "cache").exists()


def test_what_nobody_has_used_for_long_is_removed(tmp_path: Path) -> None:
    old, fresh, lock = (executable(tmp_path / name) for name in ("old", "fresh", "lock"))
    for file in (old, fresh, lock):
        os.utime(file, (0, 0))
    binaries.used(fresh)
    binaries.prune(tmp_path)
    assert (old.exists(), fresh.exists(), lock.exists()) == (False, True, True)


def test_a_machine_without_the_tools_says_which_is_missing(tmp_path: Path) -> None:
    with pytest.raises(IOFailure, match=r"there is no apt-get; name a program in \$LAB_KERNEL"):
        binaries.provide(["linux.uml"])
    assert list((tmp_path / "cache/spiderpool").glob("making-*")) == []


@pytest.mark.parametrize("program", binaries.PROMETHEUS)
def test_without_the_tools_prometheus_can_be_installed(program: str) -> None:
    with pytest.raises(IOFailure, match="there is no apt-get; install prometheus"):
        binaries.provide([program])


def test_both_programs_of_a_package_come_with_one_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt = "#!/bin/sh\ncase $* in *indextargets*) echo mirror ;; *) echo $* >>../../calls; touch $5.deb ;; esac\n"
    executable(tmp_path / "bin/apt-get", apt)
    unpack = "for name in prometheus promtool; do install -D /bin/true $3/usr/bin/$name; done"
    executable(tmp_path / "bin/dpkg", f"#!/bin/sh\n{unpack}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    found = binaries.provide(binaries.PROMETHEUS)
    place = tmp_path / "cache/spiderpool/prometheus/usr/bin"
    assert [(each.path, each.origin) for each in found] == [(place / name, "cache") for name in binaries.PROMETHEUS]
    assert (tmp_path / "cache/spiderpool/calls").read_text().split()[-2:] == ["download", "prometheus"]


def test_an_apt_without_the_package_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = "#!/bin/sh\ncase $* in *indextargets*) echo mirror ;; *) echo E: no such package; exit 100 ;; esac\n"
    executable(tmp_path / "bin/apt-get", answers)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    with pytest.raises(
        IOFailure, match=r"cannot download user-mode-linux; .* name a program in \$LAB_KERNEL"
    ) as failure:
        binaries.provide(["linux.uml"])
    assert failure.value.details == "E: no such package"


APT = """#!/bin/sh
case "$*" in
    *indextargets*) echo mirror ;;
    *) touch "{started}"; sleep 300 & sleep 300 ;;
esac
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_half_made_and_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    started = tmp_path / "started"
    executable(tmp_path / "bin/apt-get", APT.format(started=started))
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    leftover = tmp_path / "cache/spiderpool/making-of-a-killed-run"
    leftover.mkdir(parents=True)
    command = [*WITH_PARENT, sys.executable, "-m", "spiderpool_lab.binaries"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as child:
        wait_until(started.exists, "apt-get runs", timeout=30)
        session = subprocess.run(["/usr/bin/pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True)
        child.send_signal(number)
        assert child.wait(20) == 128 + number
    assert [entry.name for entry in (tmp_path / "cache/spiderpool").iterdir()] == ["lock"]
    with pytest.raises(ProcessLookupError):
        os.killpg(int(session.stdout), 0)
