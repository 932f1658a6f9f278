"""The native engine beside torch, PEFT and the runtime in Python: losses, gradients, answers, adapters and merges."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from base_cases import make_llama, make_qwen
from engine_cases import SAMPLES, answer_loss, lora_of
from native_cases import BAD_FILE, MISMATCH, NOT_FOUND, Native, PartError
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from xpert.core.runtime import PersonalizeOptions
from xpert.models.adapters import read_adapter, write_adapter
from xpert.models.merging import merge_adapters
from xpert_mobile.adapter_state import from_peft
from xpert_mobile.bundle import making
from xpert_mobile.bundle.base_part import BundledBase
from xpert_mobile.bundle.making import BundleOptions, export_bundle
from xpert_mobile.bundle.manifest import Bundle
from xpert_mobile.engine import Program
from xpert_mobile.samples import Sample
from xpert_mobile.training import LayerwiseModel, Trainer

TWO = SAMPLES[:2]
PROGRAMS = {"lora": "train", "prompt": "train", "prefix": "prefix"}
"""Which of a bundle's programs train what."""

TOLERANCE = 2e-4
"""Largest deviation from torch, as a share of the largest value: that of the exporter."""


@dataclass(frozen=True)
class Case:
    """A base as a folder and in torch, its bundle, and an adapter."""

    folder: Path
    model: Any
    bundle: Bundle
    adapter: Path

    @property
    def place(self) -> str:
        return str(self.bundle.folder)


def made(tmp: Path, folder: Path, options: BundleOptions, programs: Path, *, whole_vocabulary: int) -> Case:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "WHOLE_VOCABULARY", whole_vocabulary)
        bundle = export_bundle(folder, tmp / "bundle.xpert", options=options, with_encoder=False, cache=programs)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    if options.precision == "int8":
        rounded = {name: torch.from_numpy(np.array(value)) for name, value in BundledBase(bundle).float_weights()}
        model.load_state_dict(rounded, strict=False)
    return Case(folder, model, bundle, lora_of(folder, model, tmp / "adapter"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Case:
    """Llama, its answers by blocks of the vocabulary."""
    tmp = tmp_path_factory.mktemp("llama")
    options = BundleOptions(rank=4, batch=2, lengths=(64,), generate=64, prefix=5)
    return made(tmp, make_llama(tmp / "base"), options, programs, whole_vocabulary=1000)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Case:
    """Qwen2 in int8 and stored twice, its answers over the whole vocabulary."""
    tmp = tmp_path_factory.mktemp("qwen")
    options = BundleOptions(rank=4, batch=2, lengths=(64,), generate=64, prefix=5, precision="int8", transposed=True)
    return made(tmp, make_qwen(tmp / "base"), options, programs, whole_vocabulary=1 << 20)


@pytest.fixture(params=["llama", "qwen"])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.getfixturevalue(request.param)
    return found


def deviation(ours: Any, theirs: Any) -> float:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.abs(ours - theirs).max() / (np.abs(theirs).max() + 1e-12))


def in_front(case: Case, method: str, folder: Path) -> Any:
    """PEFT's model with five random places in front of the tokens, saved in a folder."""
    torch.manual_seed(5)
    base = AutoModelForCausalLM.from_pretrained(case.folder)
    base.load_state_dict(case.model.state_dict())
    kinds = {"prompt": PromptTuningConfig, "prefix": PrefixTuningConfig}
    model = get_peft_model(base, kinds[method](task_type="CAUSAL_LM", num_virtual_tokens=5)).eval()
    model.save_pretrained(str(folder))
    return model


def adapted(case: Case, folder: Path) -> PeftModel:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(case.folder), str(folder)).eval()


def test_losses_and_gradients_are_those_of_torch(native: Native, case: Case) -> None:
    found = native.call("engine.gradients", bundle=case.place, samples=TWO, adapter=str(case.adapter))
    model = PeftModel.from_pretrained(case.model, str(case.adapter), is_trainable=True)
    try:
        loss = answer_loss(model, TWO)
        loss.backward()
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert found["measured"] == pytest.approx(loss.item(), rel=1e-5)
        parameters = dict(model.named_parameters())
        order = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
        order += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
        names = [f"model.layers.{i}.{module}.lora_{half}" for i in range(2) for module in order for half in "AB"]
        for name, ours in zip(names, found["gradients"], strict=True):
            theirs = parameters[f"base_model.model.{name}.default.weight"].grad
            assert theirs is not None
            assert deviation(ours, theirs.numpy().ravel()) < TOLERANCE, name
    finally:
        model.unload()  # type: ignore[operator]


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_what_is_learned_in_front_has_peft_s_loss_and_gradient(native: Native, case: Case, tmp_path: Path, method: str) -> None:
    model = in_front(case, method, tmp_path)
    loss = answer_loss(model, TWO, front=5 if method == "prompt" else 0)
    loss.backward()
    found = native.call("engine.gradients", bundle=case.place, programs=PROGRAMS[method], samples=TWO, adapter=str(tmp_path))
    (theirs,) = [value.grad for value in model.parameters() if value.grad is not None]
    expected = theirs.numpy()
    if method == "prefix":  # PEFT's rows are (place, layer and half, head, value), ours arrays of (head, place, value)
        expected = expected.reshape(5, 4, 2, -1).transpose(1, 2, 0, 3)
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert found["measured"] == pytest.approx(loss.item(), rel=1e-5)
    assert deviation(np.concatenate([np.ravel(part) for part in found["gradients"]]), expected.ravel()) < TOLERANCE


def test_training_goes_as_in_python(native: Native, case: Case, tmp_path: Path) -> None:
    steps = 6
    found = native.call(
        "engine.train", bundle=case.place, samples=TWO, adapter=str(case.adapter), out=str(tmp_path / "native"), held_out=0,
        max_steps=steps,
    )  # fmt: skip
    bundle, stated = case.bundle, case.bundle.manifest["programs"]["train"][0]
    base = BundledBase(bundle)
    state = from_peft(case.adapter, bundle.geometry, base.digest, rank=1, alpha=16.0, seed=0)
    program = Program(bundle.folder / stated["file"], threads=1)
    model = LayerwiseModel(base, bundle.geometry, program, batch=2, length=64, vocabulary_block=stated["vocabulary_block"])
    options = PersonalizeOptions(max_steps=steps, batch_size=2, held_out=0, eval_every=4, learning_rate=5e-3, patience=9)
    result = Trainer(model, state, [Sample(tuple(ids), n) for ids, n in TWO], options, tmp_path / "python").run()
    np.testing.assert_allclose(found["losses"], result.losses, rtol=1e-4)
    assert found["losses"][-1] < found["losses"][0]
    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("native", "python"))
    assert ours.keys() == theirs.keys()
    assert max(deviation(ours[name], theirs[name]) for name in ours) < 5e-3


def test_a_trained_adapter_is_peft_s_own(native: Native, llama: Case, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = native.call("engine.train", bundle=llama.place, samples=SAMPLES, rank=3, out=str(out), max_steps=4)
    assert (found["n_train"], found["n_held_out"], len(found["losses"])) == (6, 2, 4)
    assert [step for step, _ in found["held_out"]] == [0, 4]
    read = read_adapter(out)
    assert read.digest == found["digest"]
    assert {pair.A.shape[0] for pair in read.modules.values()} == {3}
    again = native.call("engine.gradients", bundle=llama.place, samples=TWO, adapter=str(out))
    with torch.no_grad():
        assert again["loss"] == pytest.approx(answer_loss(adapted(llama, out), TWO).item(), rel=1e-5)


@pytest.mark.parametrize("method", ["lora", "prompt", "prefix"])
def test_learns_and_loads_in_peft(native: Native, llama: Case, tmp_path: Path, method: str) -> None:
    out = tmp_path / "out"
    found = native.call(
        "engine.train", bundle=llama.place, programs=PROGRAMS[method], samples=TWO, method=method, rank=4, n_virtual=5,
        held_out=0, out=str(out), max_steps=90, learning_rate=2e-2,
    )  # fmt: skip
    assert found["losses"][-1] < 0.9 * found["losses"][0]
    front = 5 if method == "prompt" else 0
    with torch.no_grad():
        theirs = answer_loss(adapted(llama, out), TWO, front=front).item()
    again = native.call("engine.gradients", bundle=llama.place, programs=PROGRAMS[method], samples=TWO, adapter=str(out))
    assert again["loss"] == pytest.approx(theirs, rel=1e-5)


def test_accumulated_steps_are_those_of_a_larger_batch(native: Native, llama: Case, tmp_path: Path) -> None:
    common = {"bundle": llama.place, "samples": SAMPLES[:4], "held_out": 0, "adapter": str(llama.adapter), "max_steps": 3}
    apart = native.call("engine.train", **common, batch_size=2, accumulate=2, out=str(tmp_path / "a"))
    single = native.call("engine.train", **common, batch_size=1, accumulate=4, out=str(tmp_path / "b"))
    with torch.no_grad():
        first = answer_loss(adapted(llama, llama.adapter), SAMPLES[:4]).item()
    assert apart["losses"][0] == pytest.approx(first, rel=1e-5)
    np.testing.assert_allclose(apart["losses"], single["losses"], rtol=1e-4)


@pytest.mark.parametrize("kind", ["base", "lora", "prompt", "prefix"])
def test_answers_are_those_of_transformers(native: Native, case: Case, tmp_path: Path, kind: str) -> None:
    prompt, ids = SAMPLES[3][0], torch.tensor([SAMPLES[3][0]])
    base = AutoModelForCausalLM.from_pretrained(case.folder)
    base.load_state_dict(case.model.state_dict())
    model: Any = base.eval()
    adapter = ""
    if kind == "lora":
        adapter, model = str(case.adapter), PeftModel.from_pretrained(base, str(case.adapter))
    elif kind != "base":
        adapter, model = str(tmp_path), in_front(case, kind, tmp_path)
    with torch.no_grad():
        theirs = list(prompt)
        for _ in range(12):
            token = int(model(input_ids=torch.tensor([theirs])).logits[0, -1].argmax())
            if token == case.bundle.manifest["base"]["end"]:
                break
            theirs.append(token)
    found = native.call("engine.generate", bundle=case.place, prompt=prompt, adapter=adapter, max_new_tokens=12)
    assert found["ids"] == theirs[ids.shape[1] :]
    assert "".join(found["pieces"]) == found["text"] == "".join(f"<{token}>" for token in found["ids"])


def test_answers_end_where_they_should(native: Native, llama: Case) -> None:
    whole = native.call("engine.generate", bundle=llama.place, prompt=[5, 6, 7], max_new_tokens=10)
    assert whole["ended"] == "length"
    word = f"<{whole['ids'][4]}>"
    cut = native.call("engine.generate", bundle=llama.place, prompt=[5, 6, 7], max_new_tokens=10, stop=[word])
    assert (cut["ended"], cut["text"]) == ("stop", whole["text"][: whole["text"].index(word)])
    to_the_brim = native.call("engine.generate", bundle=llama.place, prompt=list(range(5, 65)), max_new_tokens=100)
    assert len(to_the_brim["ids"]) <= 4
    with pytest.raises(PartError, match="64 tokens, at most 63"):
        native.call("engine.generate", bundle=llama.place, prompt=list(range(5, 69)))
    with pytest.raises(PartError, match="stopped") as stopped:
        native.call("engine.generate", bundle=llama.place, prompt=[5, 6, 7], stop_at=2)
    assert stopped.value.status == 15


def test_drawn_answers_repeat_with_their_seed(native: Native, llama: Case) -> None:
    def answer(seed: int) -> Any:
        return native.call("engine.generate", bundle=llama.place, prompt=[5, 6, 7], temperature=1.5, seed=seed)["ids"]

    assert answer(1) == answer(1)
    assert answer(1) != answer(2)


def test_merges_are_those_of_the_sdk(native: Native, llama: Case, tmp_path: Path) -> None:
    other = lora_of(llama.folder, llama.model, tmp_path / "other", rank=2, alpha=3.0, use_rslora=True)
    weights = [0.7, -0.4]
    merged = merge_adapters([(read_adapter(path), weight) for path, weight in zip((llama.adapter, other), weights, strict=True)])
    write_adapter(tmp_path / "python", merged.adapter)
    sources = [[str(llama.adapter), weights[0]], [str(other), weights[1]]]
    found = native.call("engine.merge", sources=sources, out=str(tmp_path / "native"))
    assert found["rank"] == 6
    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("native", "python"))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert read_adapter(tmp_path / "native").digest == read_adapter(tmp_path / "python").digest == found["digest"]
    with torch.no_grad():
        assert torch.isfinite(answer_loss(adapted(llama, tmp_path / "native"), TWO))


def test_scalings_and_digests_are_read_as_the_sdk_reads_them(native: Native, llama: Case, tmp_path: Path) -> None:
    pattern = {"model.layers.0.mlp.up_proj": 7, "k_proj": 1e-5, r"^model\.layers\.1\.mlp\.down_proj$": 40}
    for i, options in enumerate([{"use_rslora": True}, {"alpha_pattern": pattern}, {"alpha": 0.1}]):
        folder = lora_of(llama.folder, llama.model, tmp_path / str(i), rank=3, **options)
        theirs = read_adapter(folder)
        ours = native.call("engine.adapter", adapter=str(folder))
        assert ours["digest"] == theirs.digest
        assert (ours["bytes"], ours["base_digest"]) == (theirs.n_bytes, theirs.base_digest)
        assert ours["scalings"] == pytest.approx({name: pair.scaling for name, pair in theirs.modules.items()}, rel=1e-12)


def changed(case: Case, out: Path, *, config: dict[str, Any] | None = None, metadata: dict[str, str] | None = None) -> Path:
    shutil.copytree(case.adapter, out)
    path = out / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **(config or {})}))
    if metadata is not None:
        save_file(load_file(out / "adapter_model.safetensors"), out / "adapter_model.safetensors", metadata=metadata)
    return out


def refusal(native: Native, case: Case, adapter: Path) -> PartError:
    with pytest.raises(PartError) as caught:
        native.call("engine.gradients", bundle=case.place, samples=TWO, adapter=str(adapter))
    return caught.value


def test_refuses_foreign_and_broken_adapters(native: Native, llama: Case, qwen: Case, tmp_path: Path) -> None:
    other = changed(llama, tmp_path / "other", metadata={"xpert_base_digest": "f" * 64})
    assert refusal(native, llama, other).status == MISMATCH
    assert "made for the base" in str(refusal(native, qwen, llama.adapter))
    assert refusal(native, llama, tmp_path / "none").status == NOT_FOUND
    for key, value in {
        "use_dora": True,
        "bias": "all",
        "modules_to_save": ["lm_head"],
        "peft_type": "IA3",
        "lora_alpha": "x",
    }.items():
        found = refusal(native, llama, changed(llama, tmp_path / key, config={key: value}))
        assert found.status == BAD_FILE, key
    endless = changed(llama, tmp_path / "endless", config={"alpha_pattern": {"(.*.*)*q": 3}})
    assert "alpha_pattern" in str(refusal(native, llama, endless))
    cut = changed(llama, tmp_path / "cut")
    weights = cut / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert refusal(native, llama, cut).status == BAD_FILE
    arrays = load_file(llama.adapter / "adapter_model.safetensors")
    name = next(name for name in arrays if "q_proj.lora_A" in name)
    for label, array in {"nan": arrays[name] * np.nan, "rank": arrays[name][:2], "width": arrays[name][:, :5]}.items():
        folder = changed(llama, tmp_path / label)
        save_file({**arrays, name: np.ascontiguousarray(array)}, folder / "adapter_model.safetensors")
        assert refusal(native, llama, folder).status in (BAD_FILE, MISMATCH), label
    wide = lora_of(llama.folder, llama.model, tmp_path / "wide", rank=5)
    assert "rank 5" in str(refusal(native, llama, wide))


def ask(native: Native, case: Case, call: str, request: dict[str, Any], **arguments: Any) -> Any:
    return native.call("engine.ask", bundle=case.place, call=call, request=request, **arguments)


def test_requests_are_answered_as_the_c_api_says(native: Native, llama: Case, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    texts = [[ids[:n], ids[n:]] for ids, n in SAMPLES] + [[[5, 6], list(range(7, 107))]]
    request = {"out": out, "max_steps": 2, "rank": 2, "batch_size": 3, "accumulate": 2, "held_out": 0.25, "target_loss": None}
    result = ask(native, llama, "personalize", request, texts=texts)
    assert {key: result[key] for key in ("adapter", "steps", "n_train", "n_held_out", "n_cut", "resumed_from")} == {
        "adapter": out, "steps": 2, "n_train": 7, "n_held_out": 2, "n_cut": 1, "resumed_from": 0
    }  # fmt: skip
    assert read_adapter(Path(out)).digest == result["digest"]
    further = ask(
        native, llama, "personalize", {"start": out, "out": str(tmp_path / "further"), "rank": 4, "max_steps": 1}, texts=texts
    )
    assert {pair.A.shape[0] for pair in read_adapter(tmp_path / "further").modules.values()} == {4}
    assert further["steps"] == 1
    answer = ask(native, llama, "generate", {"adapter": out, "max_new_tokens": 3}, prompt=[5, 6, 7])
    assert (answer["n_prompt"], answer["n_new"], answer["text"], answer["ended"]) == (3, 3, "xxx", "length")
    learned = ask(
        native, llama, "personalize", {"out": str(tmp_path / "prefix"), "method": "prefix", "max_steps": 2}, texts=texts
    )
    assert learned["n_cut"] == 1
    model = adapted(llama, tmp_path / "prefix")
    assert model.peft_config["default"].num_virtual_tokens == 5
    assert ask(native, llama, "generate", {"adapter": learned["adapter"], "max_new_tokens": 3}, prompt=[5, 6, 7])["n_new"] == 3
    sources = [{"adapter": out, "weight": 0.5}, {"adapter": str(llama.adapter), "weight": 0.5}]
    merged = ask(native, llama, "merge", {"sources": sources, "out": str(tmp_path / "merged")})
    assert merged == {"rank": 6, "bytes": (tmp_path / "merged" / "adapter_model.safetensors").stat().st_size}
    assert "base_model_name_or_path" in json.loads((tmp_path / "merged" / "adapter_config.json").read_text())


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({}, "out"),
        ({"out": "x", "steps": 3}, "no option 'steps'"),
        ({"out": "x", "max_steps": "many"}, "max_steps"),
        ({"out": "x", "method": "ia3"}, "lora, prompt, prefix"),
        ({"out": "x", "rank": 0}, "rank"),
        ({"out": "x", "rank": 5}, "rank 5"),
        ({"out": "x", "method": "prefix", "n_virtual": 7}, "prefixes of 5 places, 7 were asked for"),
        ({"out": "x", "method": "prompt", "n_virtual": 62}, "leave room"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(native: Native, llama: Case, request_: dict[str, Any], why: str) -> None:
    with pytest.raises(PartError, match=why):
        ask(native, llama, "personalize", request_, texts=[[ids[:n], ids[n:]] for ids, n in SAMPLES])


def test_a_prefix_wants_a_bundle_that_was_exported_for_it(native: Native, small_bundle: Path) -> None:
    request = {"out": "x", "method": "prefix"}
    with pytest.raises(PartError, match="with --prefix"):
        native.call("engine.ask", bundle=str(small_bundle), call="personalize", request=request, texts=[[[5, 6], [7, 8]]])


def test_answers_are_the_same_whatever_stays_in_memory(native: Native, case: Case) -> None:
    common: dict[str, Any] = {"bundle": case.place, "prompt": [5, 6, 7], "adapter": str(case.adapter), "max_new_tokens": 8}
    kept, read_again = (native.call("engine.generate", **common, keep=keep) for keep in (True, False))
    assert kept["ids"] == read_again["ids"]


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_gradients_are_the_same_to_the_bit_whatever_is_kept(native: Native, case: Case, method: str) -> None:
    common: dict[str, Any] = {
        "bundle": case.place,
        "programs": PROGRAMS[method],
        "method": method,
        "n_virtual": 5,
        "samples": TWO,
    }
    least, most = (native.call("engine.gradients", **common, most_kept=n) for n in (0, 1e9))
    assert least["gradients"] == most["gradients"]
