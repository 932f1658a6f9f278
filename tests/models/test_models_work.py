from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from xpert.core.errors import FileFormatError, InputError, MismatchError, TrainingError
from xpert.models import probing
from xpert.models.adapters import write_adapter
from xpert.models.base import BaseModel
from xpert.models.merging import merge_adapters, merge_full
from xpert.models.probing import BASE, GenerationSettings, answer_probes
from xpert.models.prompting import prompt_ids
from xpert.models.tuning import Example, TuneConfig, finetune

PROBES = ["Why is the sky blue?", "Hi", "How do I boil an egg when there is no pot?", "What is rain?"]
SETTINGS = GenerationSettings(max_new_tokens=12)
EXAMPLES = [Example(f"answer {i} is {'yes' if i % 2 else 'no'}", f"question {i}") for i in range(8)]
TUNE = TuneConfig(
    rank=2, max_steps=8, batch_size=2, eval_every=2, checkpoint_every=2, learning_rate=5e-3, bf16=False, dropout=0.1
)


def one_by_one(folder: Path, adapter: Path | None, base: BaseModel) -> list[str]:
    from peft import PeftModel

    model = AutoModelForCausalLM.from_pretrained(folder)
    if adapter:
        model = PeftModel.from_pretrained(model, str(adapter))
    out = []
    for probe in PROBES:
        ids = torch.tensor([prompt_ids(base.tokenizer, probe)])
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        out.append(base.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return out


def test_mixed_batches_answer_as_each_model_alone(base: BaseModel, adapters: dict[str, Path], llama: Path) -> None:
    loaded = {name: base.adapter(path) for name, path in adapters.items()}
    seen: list[tuple[int, int]] = []
    found = answer_probes(base, loaded, PROBES, settings=SETTINGS, progress=lambda a, b: seen.append((a, b)))
    assert found[BASE] == one_by_one(llama, None, base)
    for name, path in adapters.items():
        assert found[name] == one_by_one(llama, path, base)
        assert found[name] != found[BASE]
    assert seen[-1] == (12, 12)
    small = answer_probes(base, loaded, PROBES, settings=replace(SETTINGS, max_rows=3))
    assert small == found


def test_answers_are_kept_and_a_cut_run_goes_on(base: BaseModel, adapters: dict[str, Path], tmp_path: Path) -> None:
    loaded = {name: base.adapter(path) for name, path in adapters.items()}

    def stop(done: int, _: int) -> None:
        if done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_probes(base, loaded, PROBES, settings=SETTINGS, cache=tmp_path, progress=stop)
    done: list[int] = []
    found = answer_probes(base, loaded, PROBES, settings=SETTINGS, cache=tmp_path, progress=lambda n, _: done.append(n))
    assert done == [*range(6, 13)]
    assert found == answer_probes(base, loaded, PROBES, settings=SETTINGS)
    for path in tmp_path.iterdir():
        path.write_text("{")
    assert answer_probes(base, loaded, PROBES, settings=SETTINGS, cache=tmp_path) == found


def test_answers_are_kept_before_a_long_batch_ends(
    base: BaseModel, adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "STORE_EVERY", 4)
    kept: list[int] = []

    def look(*_: int) -> None:
        stored = [json.loads(path.read_text())["answers"] for path in tmp_path.iterdir()]
        kept.append(sum(answer is not None for row in stored for answer in row))

    answer_probes(base, {"a": base.adapter(adapters["a"])}, PROBES, settings=SETTINGS, cache=tmp_path, progress=look)
    assert kept == [0, 0, 0, 4, 4, 4, 4, 8]


def test_probes_must_fit(base: BaseModel) -> None:
    for probes, match in (([], "0 probes"), (["a", " "], "some of them empty"), (["long " * 200], "at most 148")):
        with pytest.raises(InputError, match=match):
            answer_probes(base, {}, probes, settings=SETTINGS)


def test_finetuning_learns_and_loads_in_peft(base: BaseModel, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    config = replace(TUNE, max_steps=30, learning_rate=1e-2, dropout=0.0, eval_every=5)
    result = finetune(base, EXAMPLES, tmp_path / "out", held_out=EXAMPLES[:2], config=config)
    assert min(loss for _, loss in result.held_out) < 0.8 * result.held_out[0][1]
    assert base.adapter(tmp_path / "out").base_digest == base.digest
    for name, value in base.model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    again = finetune(base, EXAMPLES, tmp_path / "on", config=replace(config, max_steps=2), init_adapter=tmp_path / "out")
    assert np.mean(again.losses) < 0.9 * result.losses[0]
    assert not list(tmp_path.glob(".*"))


SCRIPT = """
import os, signal, sys
from pathlib import Path
from test_models_work import EXAMPLES, TUNE
from xpert.models.base import load_base
from xpert.models.tuning import finetune
def die(step, *_):
    if step == int(sys.argv[3]): os.kill(os.getpid(), signal.SIGKILL)
finetune(load_base(sys.argv[1]), EXAMPLES, Path(sys.argv[2]), held_out=EXAMPLES[:2], config=TUNE, progress=die)
"""


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_bits(base: BaseModel, llama: Path, tmp_path: Path) -> None:
    whole = finetune(base, EXAMPLES, tmp_path / "whole", held_out=EXAMPLES[:2], config=TUNE)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(llama), str(tmp_path / "cut"), "5"]
    done = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (tmp_path / "cut").exists()
    resumed = finetune(base, EXAMPLES, tmp_path / "cut", held_out=EXAMPLES[:2], config=TUNE)
    assert resumed.losses == pytest.approx(whole.losses, abs=0)
    for name, value in load_file(tmp_path / "whole" / "adapter_model.safetensors").items():
        np.testing.assert_array_equal(value, load_file(tmp_path / "cut" / "adapter_model.safetensors")[name])


def test_bad_runs_say_why(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no texts"):
        finetune(base, [], tmp_path / "a")
    with pytest.raises(InputError, match="no room"):
        finetune(base, [Example("a", "long " * 300)], tmp_path / "a", config=TUNE)
    with pytest.raises(TrainingError, match="Lower the learning rate"):
        finetune(base, EXAMPLES, tmp_path / "a", config=replace(TUNE, learning_rate=1e30, checkpoint_every=0))

    def stop(step: int, *_: object) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(base, EXAMPLES, tmp_path / "b", config=TUNE, progress=stop)
    assert not (tmp_path / "b").exists()
    with pytest.raises(TrainingError, match="belongs to a run with other texts"):
        finetune(base, EXAMPLES[1:], tmp_path / "b", config=TUNE)
    told = tmp_path / ".b.checkpoint" / "state.json"
    whole = told.read_text()
    for change in ({"best": 3}, {"step": None}, {"losses": ["x"]}, {"held_out": [1]}):
        told.write_text(json.dumps({**json.loads(whole), **change}))
        with pytest.raises(FileFormatError, match="broken"):
            finetune(base, EXAMPLES, tmp_path / "b", config=TUNE)
    told.write_text(whole)
    state = tmp_path / ".b.checkpoint" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:20])
    with pytest.raises(FileFormatError, match="broken"):
        finetune(base, EXAMPLES, tmp_path / "b", config=TUNE)


def test_merges_equal_the_formula(base: BaseModel, adapters: dict[str, Path], tmp_path: Path) -> None:
    a, b = (base.adapter(path) for path in adapters.values())
    merged = merge_adapters([(a, 0.7), (b, -0.4)])
    assert merged.error == 0
    write_adapter(tmp_path / "m", merged.adapter)
    stored = base.adapter(tmp_path / "m")
    full = AutoModelForCausalLM.from_pretrained(merge_full(base, [(a, 0.7), (b, -0.4)], tmp_path / "full"))
    for module in sorted(set(a.modules) | set(b.modules)):
        expected = base.model.get_submodule(module).weight.detach().numpy().astype(np.float64)
        for adapter, weight in ((a, 0.7), (b, -0.4)):
            if module in adapter.modules:
                pair = adapter.modules[module]
                expected = expected + weight * pair.scaling * (pair.B.astype(np.float64) @ pair.A)
        pair = stored.modules[module]
        found = base.model.get_submodule(module).weight.detach().numpy() + pair.scaling * pair.B @ pair.A
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(full.get_submodule(module).weight.detach().numpy(), expected, atol=1e-5)


def test_peft_answers_the_same_with_a_merge(base: BaseModel, adapters: dict[str, Path], llama: Path, tmp_path: Path) -> None:
    a, b = (base.adapter(path) for path in adapters.values())
    write_adapter(tmp_path / "m", merge_adapters([(a, 0.5), (b, 0.5)]).adapter)
    ours = answer_probes(base, {"m": base.adapter(tmp_path / "m")}, PROBES, settings=SETTINGS)["m"]
    assert ours == one_by_one(llama, tmp_path / "m", base)


def test_truncation_reports_its_error(base: BaseModel, adapters: dict[str, Path]) -> None:
    a, b = (base.adapter(path) for path in adapters.values())
    whole, cut = merge_adapters([(a, 1.0), (b, 1.0)]), merge_adapters([(a, 1.0), (b, 1.0)], rank=2)
    lost = total = 0.0
    for module, pair in whole.adapter.modules.items():
        exact, short = pair.B @ pair.A, cut.adapter.modules[module]
        assert short.A.shape[0] <= 2
        lost += float(np.sum((exact - short.B @ short.A) ** 2))
        total += float(np.sum(exact**2))
    assert cut.error == pytest.approx((lost / total) ** 0.5, rel=1e-3)
    assert 0 < cut.error < 1
    assert merge_adapters([(a, 1.0)], rank=64).error == pytest.approx(0, abs=1e-5)


def test_bad_merges_are_refused(base: BaseModel, adapters: dict[str, Path]) -> None:
    a = base.adapter(adapters["a"])
    with pytest.raises(InputError, match="at least one"):
        merge_adapters([])
    with pytest.raises(InputError, match="finite"):
        merge_adapters([(a, float("nan"))])
    with pytest.raises(MismatchError, match="different bases"):
        merge_adapters([(a, 1.0), (replace(a, base_digest="other"), 1.0)])
