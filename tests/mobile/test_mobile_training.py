from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mobile_cases import OPTIONS, TEXTS, files_up_to
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from xpert.core.errors import FileFormatError, InputError, MismatchError, StorageError, TrainingError
from xpert.models.digest import base_digest
from xpert.models.prompting import answer_ids, prompt_ids
from xpert_mobile.adapter_state import fresh, from_peft, to_peft
from xpert_mobile.checkpoint import read_checkpoint, write_checkpoint
from xpert_mobile.engine import Program
from xpert_mobile.geometry import PROJECTIONS, read_geometry
from xpert_mobile.layers import row_sum
from xpert_mobile.lowering import lower
from xpert_mobile.rotary import rotary_tables
from xpert_mobile.runtime import ExecuTorchRuntime
from xpert_mobile.samples import encode_texts
from xpert_mobile.training import adamw

RUNTIME = ExecuTorchRuntime()


@pytest.fixture(params=["llama", "qwen"])
def base(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def test_ids_equal_those_of_transformers(base: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    for text, sample in zip(TEXTS, encode_texts(base, TEXTS, read_geometry(base)), strict=True):
        prompt = prompt_ids(tokenizer, text.prompt)
        assert list(sample.ids) == prompt + answer_ids(tokenizer, text.text)
        assert sample.n_prompt == len(prompt)


def test_rotary_tables_equal_transformers(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    cos, sin = model.model.rotary_emb(torch.zeros(1, 50, 1), torch.arange(50)[None])
    for ours, theirs in zip(rotary_tables(read_geometry(base), 50), (cos, sin), strict=True):
        np.testing.assert_allclose(ours, theirs[0].numpy(), atol=2e-5)


@pytest.mark.slow
def test_losses_and_gradients_equal_torch(base: Path, cache: Path, tmp_path: Path) -> None:
    geometry = read_geometry(base)
    samples = encode_texts(base, TEXTS[:2], geometry)
    state = fresh(geometry, rank=4, alpha=8.0, seed=3)
    rng = np.random.default_rng(0)
    for layer in state.layers:
        for up in layer[1::2]:
            up += rng.normal(size=up.shape).astype(np.float32) * 0.1
    to_peft(state, tmp_path / "a", base_digest=base_digest(base), base_name="")
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(tmp_path / "a"), is_trainable=True
    )
    total, count = torch.zeros(()), 0
    for sample in samples:
        ids = torch.tensor([sample.ids])
        labels = ids.clone()
        labels[0, : sample.n_prompt] = -100
        n = len(sample.ids) - sample.n_prompt
        total = total + model(input_ids=ids, labels=labels).loss * n
        count += n
    (total / count).backward()
    layerwise = RUNTIME.model(base, samples, 4, OPTIONS, cache=cache)
    loss, gradients = layerwise.loss_and_gradients(samples, state)
    assert loss == pytest.approx((total / count).item(), rel=1e-5)
    # PEFT holds B with the scale folded in, so its gradient for B is ours over the scale.
    scale = float(state.scale[0])
    theirs = {name.removeprefix("base_model.model."): p.grad for name, p in model.named_parameters() if p.grad is not None}
    n_compared = 0
    for i, layer in enumerate(np.split(np.arange(len(gradients)), geometry.n_layers)):
        for j, projection in enumerate(PROJECTIONS):
            part = "self_attn" if j < 4 else "mlp"
            for half, factor in (("A", 1.0), ("B", scale)):
                ours = gradients[layer[2 * j + (half == "B")]]
                expected = theirs[f"model.layers.{i}.{part}.{projection}.lora_{half}.default.weight"].numpy() * factor
                np.testing.assert_allclose(ours, expected, atol=2e-5 * float(np.abs(expected).max() + 1e-6) + 1e-6)
                n_compared += 1
    assert n_compared == 2 * 7 * geometry.n_layers


def test_adamw_equals_torch() -> None:
    rng = np.random.default_rng(0)
    value, moments = rng.normal(size=(3, 4)).astype(np.float32), [np.zeros((3, 4), np.float32) for _ in range(2)]
    theirs = torch.tensor(value.copy(), requires_grad=True)
    optimizer = torch.optim.AdamW([theirs], lr=1e-2, weight_decay=0.0)
    for step in range(1, 6):
        gradient = rng.normal(size=(3, 4)).astype(np.float32)
        adamw(value, gradient, *moments, rate=1e-2, step=step)
        theirs.grad = torch.tensor(gradient)
        optimizer.step()
    np.testing.assert_allclose(value, theirs.detach().numpy(), atol=1e-6)


@pytest.mark.slow
def test_finetuning_lowers_the_loss_and_peft_loads_it(base: Path, cache: Path, tmp_path: Path) -> None:
    result = RUNTIME.personalize(base, TEXTS, tmp_path / "out", options=OPTIONS, cache=cache)
    assert result.steps == len(result.losses) == 12
    assert min(loss for _, loss in result.held_out) < result.held_out[0][1]
    assert not list(tmp_path.glob(".*"))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(tmp_path / "out"))
    prompts = ["Question 1?", "Is it so?"]
    ours = RUNTIME.generate(base, prompts, adapter=tmp_path / "out", max_new_tokens=8, cache=cache)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    for prompt, answer in zip(prompts, ours, strict=True):
        ids = torch.tensor([prompt_ids(tokenizer, prompt)])
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        assert tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip() == answer


SCRIPT = """
import os, signal, sys
from pathlib import Path
from mobile_cases import OPTIONS, TEXTS, files_up_to
from xpert_mobile.runtime import ExecuTorchRuntime
def die(step, *_):
    if step == int(sys.argv[4]): os.kill(os.getpid(), signal.SIGKILL)
base, out, cache = map(Path, sys.argv[1:4])
ExecuTorchRuntime().personalize(base, TEXTS, out, options=OPTIONS, cache=cache, progress=die)
"""


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_bits(llama: Path, cache: Path, tmp_path: Path) -> None:
    RUNTIME.personalize(llama, TEXTS, tmp_path / "whole", options=OPTIONS, cache=cache)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for step in (3, 7, 11):
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(llama), str(tmp_path / "cut"), str(cache), str(step)]
        done = subprocess.run(command, env=environment, check=False, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        assert not (tmp_path / "cut").exists()
    RUNTIME.personalize(llama, TEXTS, tmp_path / "cut", options=OPTIONS, cache=cache)
    name = "adapter_model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_peft_adapters_go_in_unchanged(llama: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama)
    config = LoraConfig(r=3, lora_alpha=7, use_rslora=True, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(tmp_path / "p")
    geometry = read_geometry(llama)
    state = from_peft(tmp_path / "p", geometry, base_digest(llama), rank=4, alpha=8.0, seed=0)
    tensors = load_file(tmp_path / "p" / "adapter_model.safetensors")
    for i, layer in enumerate(state.layers):
        for j, projection in enumerate(PROJECTIONS):
            update = float(state.scale[0]) * layer[2 * j + 1] @ layer[2 * j]
            part = "self_attn" if j < 4 else "mlp"
            prefix = f"base_model.model.model.layers.{i}.{part}.{projection}"
            if projection in ("q_proj", "down_proj"):
                expected = 7 / 3**0.5 * tensors[f"{prefix}.lora_B.weight"] @ tensors[f"{prefix}.lora_A.weight"]
                np.testing.assert_allclose(update, expected, atol=1e-5)
            else:
                assert not update.any()


def test_wrong_bases_texts_and_checkpoints_are_refused(llama: Path, qwen: Path, cache: Path, tmp_path: Path) -> None:
    geometry = read_geometry(llama)
    to_peft(fresh(geometry, rank=2, alpha=4.0, seed=0), tmp_path / "a", base_digest=base_digest(llama), base_name="")
    with pytest.raises(MismatchError, match="made for the base"):
        RUNTIME.personalize(qwen, TEXTS, tmp_path / "o", init_adapter=tmp_path / "a", options=OPTIONS, cache=cache)
    with pytest.raises(InputError, match="no texts"):
        RUNTIME.personalize(llama, [], tmp_path / "o", options=OPTIONS, cache=cache)
    with pytest.raises(InputError, match="leave room"):
        encode_texts(llama, [replace(TEXTS[0], prompt="long " * 400)], geometry)
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_foreign_and_broken_checkpoints_are_refused(llama: Path, cache: Path, tmp_path: Path) -> None:
    def stop(step: int, *_: object) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RUNTIME.personalize(llama, TEXTS, tmp_path / "o", options=OPTIONS, cache=cache, progress=stop)
    assert not (tmp_path / "o").exists()
    with pytest.raises(TrainingError, match="belongs to a run with other texts"):
        RUNTIME.personalize(llama, TEXTS, tmp_path / "o", options=replace(OPTIONS, seed=9), cache=cache)
    path = tmp_path / ".o.checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(FileFormatError, match="cut"):
        RUNTIME.personalize(llama, TEXTS, tmp_path / "o", options=OPTIONS, cache=cache)
    with pytest.raises(TrainingError, match="Lower the learning rate"):
        wild = replace(OPTIONS, learning_rate=1e30)
        RUNTIME.personalize(llama, TEXTS, tmp_path / "wild", options=wild, cache=cache)


@pytest.mark.slow
@pytest.mark.parametrize("full_at", [8, 12])
def test_a_run_that_met_a_full_disk_goes_on_from_its_last_checkpoint(
    llama: Path, cache: Path, tmp_path: Path, full_at: int
) -> None:
    """At step 8 the checkpoint of step 10 finds no room, at step 12 the finished adapter."""
    RUNTIME.personalize(llama, TEXTS, tmp_path / "whole", options=OPTIONS, cache=cache)
    path, seen = tmp_path / ".cut.checkpoint.safetensors", []
    with ExitStack() as stack:

        def fill(step: int, *_: object) -> None:
            if step == full_at:
                seen.append(path.read_bytes())
                stack.enter_context(files_up_to(1 << 12))

        with pytest.raises(StorageError, match=r"Cannot write '.*cut.*File too large.*Free space"):
            RUNTIME.personalize(llama, TEXTS, tmp_path / "cut", options=OPTIONS, cache=cache, progress=fill)
    assert path.read_bytes() == seen[0]
    assert {file.name for file in tmp_path.iterdir()} == {"whole", path.name}
    steps: list[int] = []
    RUNTIME.personalize(llama, TEXTS, tmp_path / "cut", options=OPTIONS, cache=cache, progress=lambda n, *_: steps.append(n))
    assert steps[0] == (6 if full_at == 8 else 11)
    name = "adapter_model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("place", [0.2, 0.6, 0.99])
def test_a_checkpoint_with_one_changed_bit_is_refused(tmp_path: Path, place: float) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, {"value.0": np.ones((40, 40), np.float32)}, {"step": 5})
    assert read_checkpoint(path)[1] == {"step": 5}
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=r"is broken: its digest is .* Remove it to start anew"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model_type": "gpt2"}, InputError, "'gpt2'"),
        ({"hidden_act": "gelu"}, InputError, "hidden_act = gelu"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}}, InputError, "rope"),
        ({"hidden_size": "x"}, FileFormatError, "not a usable config"),
        ({"num_attention_heads": 0}, FileFormatError, "not a usable config"),
        ({"num_hidden_layers": 10**9}, FileFormatError, "at most 1000"),
        ({"num_key_value_heads": 3, "rms_norm_eps": -1.0}, FileFormatError, r"4 heads cannot share 3.*rms_norm_eps is -1.0"),
    ],
)
def test_other_architectures_are_refused(
    llama: Path, tmp_path: Path, change: dict[str, object], error: type[Exception], match: str
) -> None:
    shutil.copytree(llama, tmp_path / "m")
    config = json.loads((llama / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(error, match=match):
        read_geometry(tmp_path / "m")


def test_a_width_that_an_export_met_first_is_exported_again() -> None:
    x = torch.randn(3, 1013)  # no other test's width
    for _ in range(2):
        program = Program(lower({"sum": (row_sum, (x,))}), threads=1)
        (found,) = program.run("sum", [x.numpy()])
        np.testing.assert_allclose(found, x.sum(-1, keepdim=True).numpy(), rtol=1e-4, atol=1e-4)
