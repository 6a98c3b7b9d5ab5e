"""models/import_checkpoint.py over archives written here; needs numpy, not torch."""

import collections
import io
import json
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "models" / "import_checkpoint.py"
TABLE = "transformer.embeddings.word_embeddings.weight"


def fake_torch():
    """Modules whose only use is to give the pickle torch's names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*_):
        raise AssertionError("never called while pickling")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in ("FloatStorage", "HalfStorage", "BFloat16Storage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    torch._utils = utils
    return {"torch": torch, "torch._utils": utils}


class StorageRef:
    def __init__(self, kind, key, count):
        self.kind, self.key, self.count = kind, key, count


class TensorRef:
    def __init__(self, storage, offset, shape, stride):
        self.parts = (storage, offset, shape, stride, False, collections.OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.parts


class Writer(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, StorageRef):
            return "storage", getattr(sys.modules["torch"], value.kind), value.key, "cpu", value.count
        return None


def write_bin(path, state, storages, compression=zipfile.ZIP_STORED):
    """A torch zip archive: `state` pickled, `storages` {key: array} raw."""
    modules = fake_torch()
    sys.modules.update(modules)
    try:
        buffer = io.BytesIO()
        Writer(buffer, protocol=2).dump(state)
    finally:
        for name in modules:
            del sys.modules[name]
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")


def run(source, target, *flags):
    return subprocess.run([sys.executable, str(SCRIPT), str(source), str(target), *flags],
                          capture_output=True, text=True, timeout=60, check=False)


def read(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + length])
    data = content[8 + length:]
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
            for name, entry in header.items() if name != "__metadata__"}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "config.json").write_text('{"n_embd": 4}')
    return folder


@pytest.fixture
def values():
    return np.random.default_rng(3).normal(size=24).astype("<f4")


def good_state(values):
    floats = StorageRef("FloatStorage", "0", 24)
    state = collections.OrderedDict()
    state["model." + TABLE] = TensorRef(floats, 0, (3, 4), (4, 1))
    state["model.lm_head.weight"] = TensorRef(floats, 0, (3, 4), (4, 1))
    state["model.transposed"] = TensorRef(floats, 12, (4, 3), (1, 4))
    state["model.half"] = TensorRef(StorageRef("HalfStorage", "1", 2), 0, (2,), (1,))
    state["model.brain"] = TensorRef(StorageRef("BFloat16Storage", "2", 2), 0, (2,), (1,))
    state["train_metrics.count"] = TensorRef(StorageRef("LongStorage", "3", 1), 0, (), ())
    storages = {"0": values, "1": np.array([1.5, -2], "<f2"),
                "2": np.array([0x3F80, 0xC000], "<u2"), "3": np.array([7], "<i8")}
    return state, storages


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_tensors_survive_bit_for_bit(tmp_path, source, values, compression):
    write_bin(source / "pytorch_model.bin", *good_state(values), compression)
    result = run(source, tmp_path / "target")
    assert result.returncode == 0, result.stderr
    tensors = read(tmp_path / "target" / "model.safetensors")
    assert sorted(tensors) == ["brain", "half", TABLE, "transposed"]
    assert tensors[TABLE] == ("F32", [3, 4], values[:12].tobytes())
    assert tensors["transposed"] == ("F32", [4, 3], values[12:].reshape(3, 4).T.tobytes())
    assert tensors["half"] == ("F16", [2], np.array([1.5, -2], "<f2").tobytes())
    assert tensors["brain"] == ("BF16", [2], np.array([0x3F80, 0xC000], "<u2").tobytes())
    assert (tmp_path / "target" / "config.json").read_text() == '{"n_embd": 4}'
    assert sorted(p.name for p in (tmp_path / "target").iterdir()) == ["config.json", "model.safetensors"]


def test_bf16_rounds_to_nearest_even(tmp_path, source):
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0xBF807FFF, 0x7F800000, 0x7FFFFFFF], "<u4")
    state = {"a": TensorRef(StorageRef("FloatStorage", "0", 6), 0, (6,), (1,))}
    write_bin(source / "pytorch_model.bin", state, {"0": bits})
    assert run(source, tmp_path / "target", "--dtype", "bf16").returncode == 0
    dtype, _, data = read(tmp_path / "target" / "model.safetensors")["a"]
    assert dtype == "BF16"
    expected = [0x3F80, 0x3F82, 0x3F81, 0xBF80, 0x7F80, 0x7FC0]
    assert list(np.frombuffer(data, "<u2")) == expected


def test_tied_tables_that_differ_are_refused(tmp_path, source, values):
    state, storages = good_state(values)
    state["model.lm_head.weight"] = TensorRef(StorageRef("FloatStorage", "0", 24), 1, (3, 4), (4, 1))
    write_bin(source / "pytorch_model.bin", state, storages)
    result = run(source, tmp_path / "target")
    assert result.returncode == 1 and "lm_head.weight differs" in result.stderr


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize("state, storages, message", [
    ({"a": Evil()}, {}, "builtins.print"),
    ({"a": 5}, {}, "'a' is a int"),
    ([1], {}, "holds a list"),
    ({"a": TensorRef(StorageRef("FloatStorage", "0", 4), 2, (3,), (1,))},
     {"0": np.zeros(4, "<f4")}, "outside its storage"),
    ({"a": TensorRef(StorageRef("FloatStorage", "0", 4), 0, (4,), (1,))},
     {"0": np.zeros(3, "<f4")}, "holds 12 bytes, expected 16"),
    ({"a": TensorRef(StorageRef("FloatStorage", "9", 4), 0, (4,), (1,))}, {}, "data/9 is missing"),
])
def test_bad_content_is_refused(tmp_path, source, state, storages, message):
    write_bin(source / "pytorch_model.bin", state, storages)
    result = run(source, tmp_path / "target")
    assert result.returncode == 1
    # Protocol 2 spells the module of built-ins as Python 2 did.
    assert message in result.stderr.replace("__builtin__", "builtins")
    assert "code ran" not in result.stdout and "Traceback" not in result.stderr
    assert not (tmp_path / "target" / "model.safetensors").exists()


@pytest.mark.parametrize("content, message", [
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "legacy"),
    (b"", "not a torch zip archive"),
    (b"PK\x03\x04garbage", "damaged zip"),
])
def test_other_files_are_refused(tmp_path, source, content, message):
    (source / "pytorch_model.bin").write_bytes(content)
    result = run(source, tmp_path / "target")
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr


def test_truncated_archive_is_refused(tmp_path, source, values):
    path = source / "pytorch_model.bin"
    write_bin(path, *good_state(values))
    path.write_bytes(path.read_bytes()[:-40])
    result = run(source, tmp_path / "target")
    assert result.returncode == 1 and "damaged zip" in result.stderr


def test_missing_files_and_help(tmp_path, source):
    result = run(source, tmp_path / "target")
    assert result.returncode == 1 and "pytorch_model.bin: no such file" in result.stderr
    usage = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True,
                           check=True).stdout
    assert "--dtype" in usage and "config.json" in usage
