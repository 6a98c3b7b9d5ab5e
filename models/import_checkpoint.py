#!/usr/bin/env python3
"""Turns a published BASED checkpoint (pytorch_model.bin) into model.safetensors.

The .bin file is a zip archive of one pickle and raw storages. It is read without torch: the pickle
may only name tensor rebuilding, storages and OrderedDict, so a file that tries to run code is refused,
and storages are mapped, so a 5.4 GB checkpoint needs no 5.4 GB of memory. Needs numpy only.
"""

import argparse
import collections
import io
import json
import math
import mmap
import os
import pickle
import shutil
import struct
import sys
import zipfile

import numpy as np

CHUNK_ELEMENTS = 8 << 20
EMBEDDING = "transformer.embeddings.word_embeddings.weight"
HEAD = "lm_head.weight"

# torch storage class -> (safetensors dtype, numpy dtype of the raw bits).
STORAGES = {
    "FloatStorage": ("F32", "<f4"),
    "HalfStorage": ("F16", "<f2"),
    "BFloat16Storage": ("BF16", "<u2"),
    "DoubleStorage": ("F64", "<f8"),
    "LongStorage": ("I64", "<i8"),
    "IntStorage": ("I32", "<i4"),
    "ShortStorage": ("I16", "<i2"),
    "CharStorage": ("I8", "i1"),
    "ByteStorage": ("U8", "u1"),
    "BoolStorage": ("BOOL", "u1"),
}


class ImportFault(Exception):
    """Something about the input that the user must hear; its text is the whole message."""


class Tensor(collections.namedtuple("Tensor", "storage offset shape stride")):
    """A strided view of a storage; offset and stride count elements."""

    @property
    def elements(self):
        return math.prod(self.shape)

    def array(self):
        """The view over the mapped file; nothing is copied."""
        raw = self.storage.array()
        reach = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride))
        if self.elements and not (0 <= self.offset and reach < len(raw) and min(self.stride, default=0) >= 0):
            raise ImportFault(f"a tensor of shape {list(self.shape)} reaches outside its storage")
        if not self.elements:
            return np.empty(self.shape, raw.dtype)
        strides = [s * raw.itemsize for s in self.stride]
        return np.lib.stride_tricks.as_strided(raw[self.offset:], self.shape, strides, writeable=False)


class Storage:
    """Raw elements of one storage, found in the archive when first asked for."""

    def __init__(self, archive, kind, key, count):
        self.archive, self.kind, self.key, self.count = archive, kind, key, count

    @property
    def dtype(self):
        return STORAGES[self.kind][0]

    def array(self):
        dtype = np.dtype(STORAGES[self.kind][1])
        raw = self.archive.bytes(f"data/{self.key}")
        if len(raw) < self.count * dtype.itemsize:
            raise ImportFault(f"storage {self.key} holds {len(raw)} bytes, "
                              f"expected {self.count * dtype.itemsize}")
        return np.frombuffer(raw, dtype, self.count)


class Archive:
    """The zip file, its stored entries seen through one mapping."""

    def __init__(self, path):
        self.path = path
        self.file = open(path, "rb")
        magic = self.file.read(4)
        if magic != b"PK\x03\x04":
            legacy = magic[:1] == b"\x80"
            raise ImportFault(
                f"{path}: " + ("torch's legacy (pre-1.6, non-zip) format; load and save it once with a "
                               "newer torch" if legacy else "not a torch zip archive"))
        try:
            self.zip = zipfile.ZipFile(self.file)
        except zipfile.BadZipFile as error:
            raise ImportFault(f"{path}: truncated or damaged zip archive ({error})") from None
        pickles = [n for n in self.zip.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ImportFault(f"{path}: {len(pickles)} data.pkl in the archive, expected one")
        self.prefix = pickles[0][: -len("data.pkl")]
        self.mapping = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        if self.has("byteorder") and bytes(self.bytes("byteorder")) != b"little":
            raise ImportFault(f"{path}: big-endian storages are not read")

    def has(self, name):
        return self.prefix + name in self.zip.namelist()

    def bytes(self, name):
        """The entry's content; a view of the mapping when it is stored uncompressed."""
        try:
            info = self.zip.getinfo(self.prefix + name)
        except KeyError:
            raise ImportFault(f"{self.path}: entry {name} is missing") from None
        if info.compress_type != zipfile.ZIP_STORED:
            return self.zip.read(info)
        name_bytes, extra_bytes = struct.unpack_from("<HH", self.mapping, info.header_offset + 26)
        begin = info.header_offset + 30 + name_bytes + extra_bytes
        if begin + info.file_size > len(self.mapping):
            raise ImportFault(f"{self.path}: truncated: entry {name} ends past the file")
        return memoryview(self.mapping)[begin:begin + info.file_size]


def rebuild_tensor(storage, offset, shape, stride, *_):
    if not isinstance(storage, Storage) or len(shape) != len(stride):
        raise ImportFault("a tensor is rebuilt from something else than a storage, shape and stride")
    return Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


class RestrictedUnpickler(pickle.Unpickler):
    """Knows what a state dict is made of and nothing else."""

    GLOBALS = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    }

    def __init__(self, archive):
        super().__init__(io.BytesIO(bytes(archive.bytes("data.pkl"))))
        self.archive = archive

    def find_class(self, module, name):
        if (module, name) in self.GLOBALS:
            return self.GLOBALS[module, name]
        if module == "torch" and name in STORAGES:
            return name
        raise ImportFault(f"{self.archive.path}: the pickle asks for {module}.{name}, which no state "
                          "dict needs: refused")

    def persistent_load(self, pid):
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and pid[1] in STORAGES):
            raise ImportFault(f"{self.archive.path}: unknown persistent id in the pickle")
        _, kind, key, _, count = pid
        return Storage(self.archive, kind, key, int(count))


def load_state_dict(path):
    """{name: Tensor} in the file's order."""
    archive = Archive(path)
    try:
        state = RestrictedUnpickler(archive).load()
    except ImportFault:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ImportFault(f"{path}: damaged pickle ({type(error).__name__}: {error})") from None
    if not isinstance(state, dict):
        raise ImportFault(f"{path}: holds a {type(state).__name__}, expected a state dict")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ImportFault(f"{path}: {name!r} is a {type(value).__name__}, expected a tensor")
    return state


def same(a, b):
    if (a.storage.dtype, a.shape) != (b.storage.dtype, b.shape):
        return False
    if a.storage.key == b.storage.key and (a.offset, a.stride) == (b.offset, b.stride):
        return True
    return all(np.array_equal(x.view(np.uint8), y.view(np.uint8))
               for x, y in zip(chunks(a), chunks(b)))


def select(state, path):
    """Weights under their plain names: no `model.`, no buffers or metrics, the tied table once."""
    weights = {}
    for name, tensor in state.items():
        plain = name.removeprefix("model.")
        if "metrics" in plain or ".decay." in plain or plain.endswith("inv_freq"):
            print(f"dropped {name}: not a weight", file=sys.stderr)
            continue
        if plain in weights:
            raise ImportFault(f"{path}: {name} is there twice, with and without 'model.'")
        weights[plain] = tensor
    if EMBEDDING in weights and HEAD in weights:
        if not same(weights[EMBEDDING], weights[HEAD]):
            raise ImportFault(f"{path}: {HEAD} differs from {EMBEDDING}, expected one tied table")
        del weights[HEAD]
        print(f"dropped {HEAD}: tied to {EMBEDDING}", file=sys.stderr)
    return weights


def chunks(tensor):
    """Row-major contiguous pieces of a tensor, of bounded size."""
    array = tensor.array()
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
        for at in range(0, len(flat), CHUNK_ELEMENTS):
            yield flat[at:at + CHUNK_ELEMENTS]
    else:
        rows = max(1, CHUNK_ELEMENTS // max(1, tensor.elements // tensor.shape[0]))
        for at in range(0, tensor.shape[0], rows):
            yield np.ascontiguousarray(array[at:at + rows]).reshape(-1)


def to_bf16(values):
    """fp32 to bf16 bits, rounded to nearest even; NaN stays NaN."""
    bits = values.astype("<f4").view("<u4")
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


class Progress:
    """A bar on stderr; nothing where stderr is no terminal."""

    def __init__(self, total):
        self.total, self.done, self.shown = max(total, 1), 0, -1

    def add(self, count):
        self.done += count
        percent = 100 * self.done // self.total
        if percent == self.shown or not sys.stderr.isatty():
            return
        self.shown = percent
        end = "\n" if self.done >= self.total else ""
        print(f"\r[{'#' * (percent // 2):50}] {percent:3d}%", end=end, file=sys.stderr, flush=True)


def write_safetensors(path, weights, dtype):
    """Streams the tensors into `path`, which appears only when it is whole."""
    def out_dtype(tensor):
        return "BF16" if dtype == "bf16" and tensor.storage.dtype in ("F32", "F16") else tensor.storage.dtype

    sizes = {name: np.dtype(kind).itemsize for name, kind in STORAGES.values()}
    order = sorted(weights, key=lambda name: (-sizes[out_dtype(weights[name])], name))
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in order:
        end = offset + weights[name].elements * sizes[out_dtype(weights[name])]
        header[name] = {"dtype": out_dtype(weights[name]), "shape": list(weights[name].shape),
                        "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = f"{path}.tmp.{os.getpid()}"
    progress = Progress(sum(t.elements for t in weights.values()))
    try:
        with open(temporary, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for name in order:
                convert = out_dtype(weights[name]) != weights[name].storage.dtype
                for piece in chunks(weights[name]):
                    out.write((to_bf16(piece) if convert else piece).tobytes())
                    progress.add(len(piece))
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def main():
    parser = argparse.ArgumentParser(
        description="Turn a published BASED checkpoint (config.json, pytorch_model.bin) into "
                    "model.safetensors. Needs numpy, not torch; the pickle cannot run code.")
    parser.add_argument("source", help="directory that holds pytorch_model.bin and config.json")
    parser.add_argument("target", help="directory to write (may be the same); made if missing")
    parser.add_argument("--dtype", choices=("keep", "bf16"), default="keep",
                        help="keep every tensor's type, or round fp32 and fp16 to bf16 (default: keep)")
    arguments = parser.parse_args()
    source = os.path.join(arguments.source, "pytorch_model.bin")
    config = os.path.join(arguments.source, "config.json")
    target = os.path.join(arguments.target, "model.safetensors")
    try:
        for path in (source, config):
            if not os.path.isfile(path):
                raise ImportFault(f"{path}: no such file")
        weights = select(load_state_dict(source), source)
        os.makedirs(arguments.target, exist_ok=True)
        write_safetensors(target, weights, arguments.dtype)
        copy = os.path.join(arguments.target, "config.json")
        if not os.path.exists(copy) or not os.path.samefile(config, copy):
            shutil.copyfile(config, copy)
    except (ImportFault, OSError) as error:
        print(f"import_checkpoint: {error}", file=sys.stderr)
        return 1
    total = sum(tensor.elements for tensor in weights.values())
    print(f"{target}: {len(weights)} tensors, {total:,} parameters, {os.path.getsize(target):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
