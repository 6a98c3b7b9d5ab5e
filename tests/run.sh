#!/usr/bin/env bash
# Builds everything and runs every test. Needs Debian packages and PyPI, nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source deploy/setup.sh

usage() {
  cat <<'EOF'
Usage: bash tests/run.sh [--build-only]

Installs the Debian packages that are missing, builds the daemon, the `based` command and
the tests into build/cpu (binaries: build/bin), then runs the C++ tests (ctest) and the
end-to-end tests (pytest, in a virtual environment under build/venv).

  --build-only   stop after the build
EOF
}

build_only=false
while [[ $# -gt 0 ]]; do
  case $1 in
    --build-only) build_only=true; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "run.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
done

tools=(prometheus chromium libfaketime dpkg-dev patchelf)
# Where another kubectl is installed, Debian's would not fit beside it.
command -v kubectl >/dev/null || tools+=(kubernetes-client)
install_packages "${tools[@]}"
build_preset cpu
link_binaries cpu
$build_only && exit 0

say "C++ tests"
ctest --preset cpu -j "$(nproc)"

say "End-to-end tests"
requirements=tests/e2e/requirements.txt
if ! cmp -s "$requirements" build/venv/installed.txt; then
  python3 -m venv build/venv
  build/venv/bin/pip install -q -r "$requirements"
  # The JSON-Schema-Test-Suite is part of the source distribution alone.
  rm -rf build/json_schema_suite
  build/venv/bin/pip download -q --no-deps --no-binary jsonschema -d build/json_schema_suite \
    "$(grep '^jsonschema==' "$requirements")"
  cp "$requirements" build/venv/installed.txt
fi
BASED_BIN_DIR=$PWD/build/bin build/venv/bin/python -m pytest -q tests/e2e
