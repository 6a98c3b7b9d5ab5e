"""Generates the stubs from the wire contract while the package is built, so they cannot be stale."""

import importlib.metadata
import pathlib

from setuptools import setup
from setuptools.command.build_py import build_py

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


class BuildWithStubs(build_py):
    def run(self):
        super().run()
        from grpc_tools import protoc

        files = sorted((PROTO / "based" / "v1").glob("*.proto"))
        if not files:
            raise RuntimeError(f"no proto files in {PROTO}: install from a checkout of the repository")
        out = self.build_lib
        code = protoc.main(["protoc", f"-I{PROTO}", f"--python_out={out}", f"--pyi_out={out}",
                            f"--grpc_python_out={out}", *map(str, files)])
        if code != 0:
            raise RuntimeError("protoc failed")


def at_least(package, version_of=None):
    """Stubs need libraries no older than what generated them."""
    return f"{package}>={importlib.metadata.version(version_of or package)}"


setup(
    cmdclass={"build_py": BuildWithStubs},
    install_requires=[at_least("grpcio", "grpcio-tools"), at_least("protobuf"),
                      "googleapis-common-protos>=1.60"],
)
