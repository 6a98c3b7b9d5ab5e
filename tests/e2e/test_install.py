"""What `cmake --install` and the Debian package put in place runs from there, with its model."""

import os
import pathlib
import subprocess

from conftest import BIN, Daemon

BUILD = BIN.resolve().parent


def check_runs(prefix, elsewhere):
    """The installed daemon serves the installed model to the installed command."""
    programs = prefix / "bin"
    daemon = Daemon(program=programs / "based-server")
    try:
        assert any("event=ready" in line and " model=demo " in line for line in daemon.lines)
        command = [programs / "based", "generate", "--address", daemon.address, "--prompt",
                   "The sea was", "--max_tokens", "5", "--seed", "1"]
        ended = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0 and ended.stdout.strip(), ended.stderr
    finally:
        assert daemon.stop() == 0
    assert (prefix / "share" / "based" / "proto" / "based" / "v1" / "completion.proto").exists()


def test_an_installed_tree_runs_from_where_it_is(tmp_path):
    prefix = tmp_path / "prefix"
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix, "--strip"], check=True,
                   capture_output=True)
    check_runs(prefix, tmp_path)


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
    check_runs(usr, pathlib.Path(os.sep))
