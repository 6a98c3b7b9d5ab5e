"""What `cmake --install`, the Debian package and deploy/bundle.sh put in place runs from there, with
its model."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import BIN, ROOT, Daemon

BUILD = BIN.resolve().parent


def check_runs(programs, elsewhere, environment=None):
    """The daemon there serves the model there to the command there."""
    daemon = Daemon(program=programs / "based-server", environment=environment)
    try:
        assert any("event=ready" in line and " model=demo " in line for line in daemon.lines)
        command = [programs / "based", "generate", "--address", daemon.address, "--prompt",
                   "The sea was", "--max_tokens", "5", "--seed", "1"]
        ended = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, timeout=60,
                               env=environment)
        assert ended.returncode == 0 and ended.stdout.strip(), ended.stderr
    finally:
        assert daemon.stop() == 0


def check_tree(prefix, elsewhere):
    check_runs(prefix / "bin", elsewhere)
    assert (prefix / "share" / "based" / "proto" / "based" / "v1" / "completion.proto").exists()


def test_an_installed_tree_runs_from_where_it_is(tmp_path):
    prefix = tmp_path / "prefix"
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix, "--strip"], check=True,
                   capture_output=True)
    check_tree(prefix, tmp_path)


def test_the_debian_package(tmp_path):
    subprocess.run(["cpack", "-G", "DEB", "--config", BUILD / "CPackConfig.cmake", "-B", tmp_path],
                   check=True, capture_output=True)
    [package] = tmp_path.glob("*.deb")
    shown = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True,
                           text=True).stdout
    fields = dict(line.split(": ", 1) for line in shown.splitlines() if ": " in line)
    assert package.name == f"based-serve_{fields['Version']}_{fields['Architecture']}.deb"
    assert "libgrpc++" in fields["Depends"] and fields["Description"]
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path / "root"], check=True)
    usr = tmp_path / "root" / "usr"
    files = {str(path.relative_to(usr)) for path in usr.rglob("*") if path.is_file()}
    assert {"bin/based", "bin/based-server", "lib/systemd/system/based-server.service",
            "share/doc/based-serve/copyright"} <= files
    assert {path.name for path in (tmp_path / "root").iterdir()} == {"usr"}
    for path in [usr, *usr.rglob("*")]:
        assert not path.stat().st_mode & 0o022, f"others may write {path}"
    assert "Apache License" in (usr / "share/doc/based-serve/copyright").read_text()
    check_tree(usr, pathlib.Path(os.sep))


def test_a_bundle_runs_wherever_it_is_put(tmp_path):
    """Of what it needs, only the C library and its loader are the machine's."""
    if shutil.which("patchelf") is None:
        pytest.skip("patchelf is not installed")
    made = subprocess.run(["bash", ROOT / "deploy" / "bundle.sh", "--preset", BUILD.name, "--out",
                           tmp_path / "made"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    bundle = (tmp_path / "made").rename(tmp_path / "put elsewhere")
    loaded = subprocess.run(["ldd", bundle / "based-server", bundle / "based"], env={}, check=True,
                            capture_output=True, text=True).stdout
    libraries = re.findall(r"=> (.+) \(0x", loaded)
    assert any("libgrpc++" in library for library in libraries)
    foreign = {pathlib.Path(library).name for library in libraries
               if not library.startswith(f"{bundle}/lib/")}
    assert foreign <= {"libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0",
                       "libresolv.so.2"}, foreign
    assert (bundle / "LICENSE").exists()
    check_runs(bundle, tmp_path, environment={})
