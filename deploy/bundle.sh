#!/usr/bin/env bash
# Makes a folder that runs on another Linux of the same or a newer glibc: the daemon, `based`, the
# demo model and every shared library they need but libc's own and CUDA's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source deploy/setup.sh

usage() {
  cat <<'EOF'
Usage: bash deploy/bundle.sh [--preset cpu|cuda] [--out DIR] [--no_model]

Builds the preset (default: cuda where nvcc is installed, else cpu) and copies the result
into DIR (default build/bundle). Start it there with ./based-server. The CUDA build needs
the driver and the CUDA 13 libraries (cudart, cublas, cublasLt) on the other machine.
EOF
}

preset=cpu
command -v nvcc >/dev/null && preset=cuda
out=build/bundle
model=true
while [[ $# -gt 0 ]]; do
  case $1 in
    --preset | --out)
      [[ $# -ge 2 ]] || { echo "bundle.sh: $1 needs a value" >&2; exit 2; }
      if [[ $1 == --preset ]]; then preset=$2; else out=$2; fi
      shift 2 ;;
    --no_model) model=false; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "bundle.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
done

install_packages patchelf
build_preset "$preset" based-server based >&2

rm -rf "$out"
mkdir -p "$out/lib"
for binary in based-server based; do
  cp "build/$preset/bin/$binary" "$out/$binary"
  strip "$out/$binary"
  patchelf --set-rpath '$ORIGIN/lib' "$out/$binary"
done
# What belongs to the other machine: the C library with its loader, the driver and CUDA.
skip='/(ld-linux|libc|libm|libdl|librt|libpthread|libresolv|libcuda|libcudart|libcublas|libcublasLt)[.-]'
ldd "$out/based-server" "$out/based" | awk '$3 ~ /^\// {print $3}' | sort -u |
  { grep -Ev "$skip" || true; } | while read -r library; do
    cp -L "$library" "$out/lib/"
    strip --strip-unneeded "$out/lib/$(basename "$library")"
    patchelf --set-rpath '$ORIGIN' "$out/lib/$(basename "$library")"
  done
cp LICENSE "$out/"
say "$out without the model: $(du -sm "$out" | cut -f1) MiB"
if $model; then
  mkdir -p "$out/models"
  cp -r models/demo "$out/models/"
fi
say "Try it: $out/based-server"
