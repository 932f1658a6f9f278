from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from mobile_cases import files_up_to
from safetensors.numpy import load_file
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from xpert.core.errors import FileFormatError, StorageError
from xpert.core.files import ABANDONED
from xpert_mobile import conversion
from xpert_mobile.conversion import convert
from xpert_mobile.geometry import read_geometry
from xpert_mobile.mapping import MappedArrays
from xpert_mobile.weights import MappedBase


def test_half_precision_in_several_files_becomes_one_file_of_the_same_values(qwen: Path, tmp_path: Path) -> None:
    assert len(list(qwen.glob("*.safetensors"))) > 1
    base = MappedBase(qwen, read_geometry(qwen), tmp_path)
    (path,) = tmp_path.iterdir()
    theirs = AutoModelForCausalLM.from_pretrained(qwen, dtype=torch.float32).state_dict()
    ours = load_file(path)
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, theirs[name].numpy())
    np.testing.assert_array_equal(base.output, theirs["lm_head.weight"].numpy())


def test_one_float32_file_is_mapped_where_it_lies(llama: Path, tmp_path: Path) -> None:
    MappedBase(llama, read_geometry(llama), tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_type_is_converted_without_loss(tmp_path: Path) -> None:
    values = torch.tensor([[0.0, -1.5], [2.0, 3.0]])
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
    save_file({str(kind): values.to(kind) for kind in kinds}, tmp_path / "a.safetensors")
    save_file({"i": torch.arange(3), "none": torch.zeros(0, 4), "scalar": torch.tensor(7.0)}, tmp_path / "b.safetensors")
    convert([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], tmp_path / "c.safetensors")
    found = load_file(tmp_path / "c.safetensors")
    for kind in kinds:
        np.testing.assert_array_equal(found[str(kind)], values.numpy())
    assert (found["i"].tolist(), found["none"].shape, found["scalar"].shape) == ([0, 1, 2], (0, 4), ())
    mapped = MappedArrays(tmp_path / "c.safetensors").arrays
    assert {name: value.shape for name, value in mapped.items()} == {name: value.shape for name, value in found.items()}
    for n in range(1, 9):
        save_file({"x" * n: values}, tmp_path / "n.safetensors")
        convert([tmp_path / "n.safetensors"], tmp_path / "m.safetensors")
        assert MappedArrays(tmp_path / "m.safetensors").arrays["x" * n].flags.aligned
    save_file({"x": values.to(torch.float8_e4m3fn)}, tmp_path / "d.safetensors")
    with pytest.raises(FileFormatError, match="x is of type F8_E4M3"):
        convert([tmp_path / "d.safetensors"], tmp_path / "e.safetensors")
    assert not list(tmp_path.glob("*e.safetensors*"))


def test_converting_needs_the_memory_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "BLOCK", 1 << 12)
    save_file({str(i): torch.zeros(256, 1024, dtype=torch.bfloat16) for i in range(4)}, tmp_path / "a.safetensors")
    tracemalloc.start()
    try:
        convert([tmp_path / "a.safetensors"], tmp_path / "b.safetensors")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "b.safetensors").stat().st_size > 4 << 20
    assert peak < 1 << 18


def test_released_pages_are_those_of_the_array_alone(tmp_path: Path) -> None:
    save_file({name: torch.ones(64, 1024) for name in "abc"}, tmp_path / "x.safetensors")
    mapped = MappedArrays(tmp_path / "x.safetensors")
    for array in mapped.arrays.values():
        array[...] = 2  # in memory only: what a dropped page held is lost, and it is loaded from the file again
    mapped.release(mapped.arrays["b"])
    n_dropped = int((mapped.arrays["b"] == 1).sum())
    assert n_dropped >= 64 * 1024 - 2 * 1024  # all but the pages at both ends, which it shares
    assert (mapped.arrays["a"] == 2).all()
    assert (mapped.arrays["c"] == 2).all()
    assert (load_file(tmp_path / "x.safetensors")["a"] == 1).all()


KILLED = """
import os, signal, sys
from pathlib import Path
from xpert_mobile import conversion
from xpert_mobile.geometry import read_geometry
from xpert_mobile.weights import MappedBase
whole, seen = conversion.decode, []
def die(data, dtype):
    seen.append(len(data))
    if len(seen) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(data, dtype)
conversion.decode = die
MappedBase(Path(sys.argv[1]), read_geometry(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def test_a_killed_conversion_is_done_again_and_cleared_away(qwen: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(qwen), str(tmp_path)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    geometry = read_geometry(qwen)
    MappedBase(qwen, geometry, tmp_path)
    (made,) = tmp_path.glob("*.safetensors")
    assert set(tmp_path.iterdir()) == {left, made}  # for all it knows another process still writes there
    before = made.stat()
    old = before.st_mtime - 2 * ABANDONED
    os.utime(left, (old, old))
    MappedBase(qwen, geometry, tmp_path)
    assert list(tmp_path.iterdir()) == [made]
    assert made.stat().st_mtime_ns == before.st_mtime_ns


def test_a_full_disk_leaves_nothing_of_a_conversion(qwen: Path, tmp_path: Path) -> None:
    with files_up_to(1 << 18), pytest.raises(StorageError, match="Free space"):
        MappedBase(qwen, read_geometry(qwen), tmp_path)
    assert not list(tmp_path.iterdir())
    MappedBase(qwen, read_geometry(qwen), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("cut", [0, 5, 200, -3])
def test_broken_converted_files_are_refused(qwen: Path, tmp_path: Path, cut: int) -> None:
    MappedBase(qwen, read_geometry(qwen), tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FileFormatError, match="Remove it"):
        MappedBase(qwen, read_geometry(qwen), tmp_path)


def test_bases_that_their_config_does_not_describe_are_refused(llama: Path, tmp_path: Path) -> None:
    tensors = load_file(llama / "model.safetensors")
    tensors["model.norm.weight"][3] = np.inf
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.0.self_attn.k_proj.weight"] = tensors["model.layers.0.self_attn.k_proj.weight"][:3]
    base = tmp_path / "base"
    base.mkdir()
    save_file({name: torch.tensor(value) for name, value in tensors.items()}, base / "model.safetensors")
    shutil.copy(llama / "config.json", base)
    with pytest.raises(FileFormatError) as refused:
        MappedBase(base, read_geometry(base), tmp_path)
    message = str(refused.value)
    assert all(part in message for part in ("norm.weight holds NaN or infinity", "lacks model.layers.1.mlp", "is (3, 32)"))
