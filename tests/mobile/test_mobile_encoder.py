from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mobile_cases import OPTIONS, TEXTS
from torch.utils._python_dispatch import TorchDispatchMode

from xpert.core.data import users
from xpert.core.errors import FileFormatError, TrainingError
from xpert.models.encoders import SentenceTransformerEncoder, minilm_folder
from xpert_mobile.adapter_state import fresh
from xpert_mobile.engine import Program
from xpert_mobile.export import check_program
from xpert_mobile.export_cache import kept
from xpert_mobile.geometry import read_geometry
from xpert_mobile.runtime import ExecuTorchRuntime
from xpert_mobile.samples import encode_texts

pytestmark = pytest.mark.slow


def test_the_exported_encoder_agrees_with_torch(cache: Path) -> None:
    encoder = ExecuTorchRuntime().sentence_encoder(cache=cache)
    texts = [user.text for user in users()[:600:40]] + ["x", "word " * 600]
    ours, theirs = encoder.encode(texts), SentenceTransformerEncoder(minilm_folder()).encode(texts)
    assert ours.shape == theirs.shape
    assert (ours * theirs).sum(1).min() > 0.9999
    assert encoder.encode([]).shape == (0, 384)


def test_deviating_and_broken_programs_are_refused(tmp_path: Path) -> None:
    import torch

    from xpert_mobile.lowering import lower

    inputs = (torch.ones(2, 3), torch.full((2, 3), 2.0))
    methods = {"forward": (lambda a, b: (a * b,), inputs)}
    program = lower(methods)
    check_program(program, methods, {"forward": (inputs[0] * inputs[1],)})
    with pytest.raises(TrainingError, match="deviates from torch"):
        check_program(program, methods, {"forward": (inputs[0] * 2.01,)})
    (tmp_path / "x.pte").write_bytes(program[:50])
    with pytest.raises(FileFormatError, match="no program"):
        Program(tmp_path / "x.pte", threads=1)
    (tmp_path / "x.pte").write_bytes(program)
    found = Program(tmp_path / "x.pte", threads=1).run("forward", [np.ones((2, 3), np.float32)] * 2)
    np.testing.assert_allclose(found[0], 1.0)


def test_kept_programs_that_changed_are_refused_before_the_runtime_sees_them(tmp_path: Path) -> None:
    program = bytes(range(200))
    path = kept("x", "y", tmp_path, lambda: program)
    assert path.read_bytes()[:-32] == program
    assert kept("x", "y", tmp_path, lambda: b"") == path
    whole = path.read_bytes()
    for broken in (b"", whole[:20], whole[:-1], whole[:50] + b"!" + whole[51:], whole + b"!"):
        path.write_bytes(broken)
        with pytest.raises(FileFormatError, match="has changed since it was exported"):
            kept("x", "y", tmp_path, lambda: program)


class _Recorded(TorchDispatchMode):
    """Notes every operator that torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


HELD = {"lift_fresh", "clone", "detach"}
"""What the bindings run to hand out an output: torch holds and copies it."""


def test_torch_computes_nothing_on_the_device(llama: Path, cache: Path) -> None:
    runtime = ExecuTorchRuntime()
    encoder = runtime.sentence_encoder(cache=cache)
    geometry = read_geometry(llama)
    samples = encode_texts(llama, TEXTS[:2], geometry)
    model = runtime.model(llama, samples, 4, OPTIONS, cache=cache)
    runtime.generate(llama, ["Warm?"], max_new_tokens=3, cache=cache)  # exported here, which torch does
    with _Recorded() as ours:
        encoder.encode(["Hello there"])
        model.loss_and_gradients(samples, fresh(geometry, rank=4, alpha=8.0, seed=0))
        runtime.generate(llama, ["Warm?"], max_new_tokens=3, cache=cache)
    assert ours.names <= HELD
    theirs = SentenceTransformerEncoder(minilm_folder())
    with _Recorded() as torchs:
        theirs.encode(["Hello there"])
    assert torchs.names & {"addmm", "linear"}


LOADED = """
import sys
from pathlib import Path
from xpert_mobile.runtime import ExecuTorchRuntime
ExecuTorchRuntime().sentence_encoder(cache=Path(sys.argv[1])).encode(["Hello there"])
heavy = {"torch", "torchao", "executorch.exir", "transformers", "sentence_transformers", "peft"}
print(sorted(heavy & set(sys.modules)))
"""


def test_an_exported_encoder_runs_without_what_exported_it(cache: Path) -> None:
    ExecuTorchRuntime().sentence_encoder(cache=cache)
    command = [sys.executable, "-W", "ignore", "-c", LOADED, str(cache)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "['torch']"


PRIVATE = """
import sys
from pathlib import Path
seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith("socket.") else None)
from mobile_cases import OPTIONS, TEXTS
from xpert.core.encoder import JointEncoder
from xpert_mobile.runtime import ExecuTorchRuntime
runtime = ExecuTorchRuntime()
cache = Path(sys.argv[2])
assert JointEncoder(runtime.sentence_encoder(cache=cache)).encode([t.text for t in TEXTS]).shape[0] == len(TEXTS)
runtime.personalize(Path(sys.argv[1]), TEXTS, Path(sys.argv[3]), options=OPTIONS, cache=cache)
print([event for event in seen if event != "socket.__new__"], len([e for e in seen if e == "socket.__new__"]))
"""


def test_nothing_is_sent_while_choosing_and_fine_tuning(llama: Path, cache: Path, tmp_path: Path) -> None:
    ExecuTorchRuntime().personalize(llama, TEXTS, tmp_path / "warm", options=OPTIONS, cache=cache)
    command = [sys.executable, "-W", "ignore", "-c", PRIVATE, str(llama), str(cache), str(tmp_path / "o")]
    done = subprocess.run(command, cwd=Path(__file__).parent, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("[] ")
