"""Style as a test: rules of the source tree that neither the compiler nor clang-format checks.

Run alone (`python3 tests/tidy_test.py`, exit status 1 and one line per fault) or through ctest,
where it is the test `tidy`. Needs Python alone; reads the files that git tracks or would track, or
all where git is absent. Long lines: clang-format-14 -i --lines=N:N FILE.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = (".cc", ".h", ".cu", ".cuh", ".inc")
TEXT = (*CODE, ".py", ".sh", ".cmake", ".proto", "CMakeLists.txt")
FOREIGN = "proto/third_party/"
PARTS = ("kernels", "engine", "server", "client")  # of the product, as against tests

MOST_COLUMNS = 100
MOST_FILE_LINES = 500
MOST_FUNCTION_LINES = 70
MOST_KERNEL_LINES = 100  # in files of kernels/cpu and kernels/cuda

# What a folder may include of this repository, and of the libraries that are not for everyone.
ARROWS = {
    "kernels": r"kernels/",
    "engine": r"engine/|kernels/(program|backend|sampling)\.h|kernels/base/",
    "server": r"server/|engine/|based/v1/|kernels/backend\.h|kernels/base/",
    "client": r"client/|engine/|based/v1/|kernels/backend\.h|kernels/base/",
}
LIBRARIES = {  # first component of an include -> the folders it is for
    "grpcpp": "server|client", "grpc": "server|client", "google": "server|client",
    "based": "server|client", "boost": r"(server/http_(parser|server)|client/http_client)\.cc", "prometheus": "server", "civetweb.h": "server",
    "hwy": "kernels/cpu", "cuda_runtime.h": "kernels/cuda", "cuda_fp16.h": "kernels/cuda",
    "cuda_bf16.h": "kernels/cuda", "cublasLt.h": "kernels/cuda", "cublas_v2.h": "kernels/cuda",
}
# Whoever chooses a backend by name.
FACTORIES = {"server/main.cc", "client/main.cc"}

# (what, pattern over code without comments and strings, files of the product that may)
BANNED = [
    ("a thread", r"\bstd::j?thread\b(?!::)",
     r"engine/(engine\.cc|delivery\.(h|cc)|weight_scan\.cc)|kernels/cpu/thread_pool\.(h|cc)"
     r"|server/(batch_jobs\.(h|cc)|daemon\.cc|connection_listener\.(h|cc)|http_server\.cc|metrics_listener\.cc|stream_watch\.(h|cc))"
     r"|client/http_client\.cc"),
    ("printing", r"\b(printf|fprintf|puts|putchar|std::cout|std::cerr)\b",
     r"client/.*|server/(main|daemon)\.cc|kernels/base/check\.h"),
    ("ending the process", r"\b(exit|_exit|_Exit|quick_exit|abort)\s*\(",
     r"kernels/base/check\.h|server/daemon\.cc"),
    ("unseeded randomness", r"\bs?rand\s*\(", r""),
    ("absl::Mutex (see kernels/base/mutex.h)", r"\babsl::Mutex\b", r""),
    ("device memory outside its owner", r"\bcuda(Malloc|Free)(Host|Async)?\s*\((?!nullptr)",
     r"kernels/cuda/device_buffer\.h"),
]

LITERALS = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)
NOT_FUNCTIONS = re.compile(r"\b(namespace|class|struct|enum|union)\b|=\s*$|=\s*\{")


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        names = listed.stdout.splitlines()
    else:
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    return sorted(name for name in names
                  if (ROOT / name).is_file() and not name.startswith((FOREIGN, "build/")))


def without_literals(text: str) -> str:
    """The code with comments and contents of literals blanked; lines stay where they are."""
    digit_separators = re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", "_", text)
    return LITERALS.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), digit_separators)


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def check_text(name: str, text: str):
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if name.endswith((*CODE, ".proto")) and len(line) > MOST_COLUMNS:
            yield f"{name}:{number}: {len(line)} columns, at most {MOST_COLUMNS}"
        if line != line.rstrip():
            yield f"{name}:{number}: space at the end of the line"
        if name != "tests/tidy_test.py" and re.search(r"\b(TODO|FIXME|XXX)\b", line):
            yield f"{name}:{number}: a note to self; do it or open an issue"
    if len(lines) > MOST_FILE_LINES + 1:
        yield f"{name}: {len(lines) - 1} lines, at most {MOST_FILE_LINES}"


def check_arrows(name: str, text: str):
    part = name.split("/")[0]
    for match in re.finditer(r'^#include ["<]([^">]+)[">]', text, re.MULTILINE):
        target, number = match.group(1), line_of(text, match.start())
        first = target.split("/")[0]
        ours = first in (*PARTS, "tests") or target.startswith("based/v1/")
        if ours and not re.match(ARROWS[part], target):
            if target != "kernels/backends.h" or name not in FACTORIES:
                yield f"{name}:{number}: {part}/ may not include {target}"
        allowed = LIBRARIES.get(first)
        if allowed and not re.match(allowed, name):
            yield f"{name}:{number}: {first} is for {allowed} alone"
        if name.endswith((".cu", ".cuh")) and first == "absl":
            yield f"{name}:{number}: no absl in code for nvcc"


def check_banned(name: str, code: str):
    for what, pattern, allowed in BANNED:
        if allowed and re.fullmatch(allowed, name):
            continue
        for match in re.finditer(pattern, code):
            yield f"{name}:{line_of(code, match.start())}: {what}: {match.group().strip()}"


def functions(code: str):
    """(first line, lines) of every outermost block that looks like a function's body."""
    code = re.sub(r"^#(.*\\\n)*.*$", lambda match: re.sub(r"[^\n]", " ", match.group()), code,
                  flags=re.MULTILINE)
    depth, outer, header_start, begin = 0, None, 0, 0
    for match in re.finditer(r"[{};]", code):
        sign, offset = match.group(), match.start()
        if sign == "{":
            header = code[header_start:offset]
            if outer is None and ")" in header and not NOT_FUNCTIONS.search(header.split("(")[0]):
                outer, begin = depth, header_start + len(header) - len(header.lstrip())
            depth += 1
        elif sign == "}":
            depth -= 1
            if outer == depth:
                first = line_of(code, begin)
                yield first, line_of(code, offset) - first + 1
                outer = None
        header_start = match.end()


def check_functions(name: str, code: str):
    kernel = name.startswith(("kernels/cpu/", "kernels/cuda/"))
    most = MOST_KERNEL_LINES if kernel else MOST_FUNCTION_LINES
    for first, length in functions(code):
        if length > most:
            yield f"{name}:{first}: a function of {length} lines, at most {most}"


def check_prose(name: str, text: str, names: set[str]):
    """A file says what it is: in its header, or itself where it has none."""
    header = re.sub(r"\.(cc|cu)$", ".h", name)
    own = name if name.endswith(".h") or header not in names else None
    if own and not text.startswith("//"):
        yield f"{name}:1: no comment that says what the file is"


def check_dead(name: str, contents: dict[str, str]):
    folder, _, base = name.rpartition("/")
    if name.endswith((".cc", ".cu")):
        lists = (contents.get(f"{folder}/CMakeLists.txt", ""),
                 contents.get(f"{folder.rpartition('/')[0]}/CMakeLists.txt", ""))
        # Either the file itself, or the name from which a helper or a loop of the list makes it.
        stem = base.removesuffix("_test.cc").removesuffix("_fuzz.cc")
        named = rf"(?<![\w-])({re.escape(base)}|{re.escape(stem)})(?![\w-])"
        if not any(re.search(named, text) for text in lists):
            yield f"{name}: named in no CMakeLists.txt"
    elif name.endswith((".h", ".cuh", ".inc")):
        if not any(f'"{name}"' in text for other, text in contents.items()
                   if other != name and other.endswith(CODE)):
            yield f"{name}: included by nothing"


def faults() -> list[str]:
    contents = {name: (ROOT / name).read_text(encoding="utf-8")
                for name in tracked_files() if name.endswith(TEXT)}
    found = []
    for name, text in contents.items():
        found += check_text(name, text)
        if not name.endswith(CODE):
            continue
        code = without_literals(text)
        found += check_functions(name, code)
        found += check_dead(name, contents)
        if name.split("/")[0] in PARTS:
            found += check_prose(name, text, set(contents))
            found += check_arrows(name, text)
            found += check_banned(name, code)
    return found


def test_tidy():
    assert not faults(), "\n".join(faults())


if __name__ == "__main__":
    result = faults()
    print("\n".join(result) or "tidy")
    sys.exit(1 if result else 0)
