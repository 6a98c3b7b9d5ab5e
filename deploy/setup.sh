# Shared by deploy/quickstart.sh, tests/run.sh and .ci/run: Debian packages, configure, build.
# Sourced, not run. Expects the working directory to be the root of the repository.

BASED_PACKAGES=(
  g++ cmake ninja-build ccache pkg-config
  libgrpc++-dev protobuf-compiler-grpc protobuf-compiler libprotobuf-dev libabsl-dev
  prometheus-cpp-dev libcivetweb-dev nlohmann-json3-dev libboost-dev libpcre2-dev libhwy-dev
  libxxhash-dev libjs-chart.js libssl-dev openssl libgtest-dev libgmock-dev libbenchmark-dev
  python3 python3-venv
)

# Objects are found again from another preset's build directory.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

say() { printf '==> %s\n' "$*" >&2; }

# install_packages [EXTRA...]: installs what is missing; needs root or sudo only then.
install_packages() {
  local wanted=("${BASED_PACKAGES[@]}" "$@") installed missing=() package
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null || true)
  for package in "${wanted[@]}"; do
    grep -qx "installed $package" <<<"$installed" || missing+=("$package")
  done
  [[ ${#missing[@]} -eq 0 ]] && return 0
  say "Installing Debian packages: ${missing[*]}"
  local as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || {
      say "These packages are missing and neither root nor sudo is at hand. As root, run:"
      say "  apt-get install ${missing[*]}"
      return 1
    }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# build_preset PRESET [TARGET...]: configures on the first call, then builds.
build_preset() {
  local preset=$1
  shift
  if [[ ! -f build/$preset/build.ninja ]]; then
    say "Configuring (build/$preset)"
    cmake --preset "$preset" >build-configure.log 2>&1 || {
      cat build-configure.log >&2
      rm -f build-configure.log
      return 1
    }
    grep -E '^-- CUDA' build-configure.log >&2 || true
    rm -f build-configure.log
  fi
  local targets=()
  [[ $# -eq 0 ]] || targets=(--target "$@")
  cmake --build --preset "$preset" "${targets[@]}"
}

# Binaries are found at build/bin whatever the preset.
link_binaries() {
  mkdir -p build
  ln -sfn "$1/bin" build/bin
}
