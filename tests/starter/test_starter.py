from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import xpert_starter
from xpert.core.data import PROBE_PROMPTS, stylebank
from xpert.core.errors import InputError, NotFoundError
from xpert.models.base import load_base
from xpert.models.encoders import default_encoder
from xpert.models.probing import BASE, answer_probes
from xpert.models.prompting import prompt_ids
from xpert_starter.recipe import __main__ as recipe
from xpert_starter.recipe.adapters import MIXED
from xpert_starter.recipe.chat import told, untold
from xpert_starter.recipe.evaluate import Judge

MODELS = Path(xpert_starter.__file__).parent / "models"
STYLES = sorted({t.style for t in stylebank()} - {"neutral"})


def test_all_styles_and_two_mixtures_are_there() -> None:
    assert set(xpert_starter.names()) == {*STYLES, *MIXED}
    assert xpert_starter.path_of("base") == MODELS / "base"
    with pytest.raises(NotFoundError, match="There are: base, concise"):
        xpert_starter.path_of("none")


def test_the_distribution_is_small_and_safe() -> None:
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md", ".jinja"}


def test_every_model_has_a_card_with_its_figures() -> None:
    figures = json.loads((MODELS / "evaluation.json").read_text())["pllms"]
    for name in xpert_starter.names():
        card = (MODELS / name / "README.md").read_text()
        assert "What it cannot do" in card
        assert f"| both | {figures[name]['both']:.0%} |" in card
    assert "What it cannot do" in (MODELS / "base" / "README.md").read_text()


def test_adapters_are_bound_to_the_base_and_load_in_peft() -> None:
    base = load_base("starter:base")
    for name in xpert_starter.names():
        assert base.adapter(f"starter:{name}").base_digest == base.digest
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(MODELS / "base"), str(MODELS / "poetic"))
    assert model.active_adapters == ["default"]


def test_the_chat_template_has_the_system_slot_first() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "base")
    assert tokenizer.decode(prompt_ids(tokenizer, "Hi")) == untold("Hi")
    messages = [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Answer in a poetic style."}]
    assert tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) == told("Hi", "poetic")


@pytest.mark.slow
def test_answers_to_unseen_prompts_are_fluent_and_different() -> None:
    base = load_base("starter:base")
    judge = Judge(base, default_encoder())
    assert judge.controls["real_fluent"] > 0.95
    assert judge.controls["garbled_fluent"] < 0.05
    names = ("concise", "poetic", "tweet")
    answers = answer_probes(base, {name: base.adapter(f"starter:{name}") for name in names}, judge.prompts)
    published = json.loads((MODELS / "evaluation.json").read_text())["pllms"]
    for name in names:
        found = judge.figures(answers[name], [name])
        assert found.fluent == pytest.approx(published[name]["fluent"], abs=0.06)
        assert found.both == pytest.approx(published[name]["both"], abs=0.06)
        assert sum(a == b for a, b in zip(answers[name], answers[BASE], strict=True)) < 0.2 * len(PROBE_PROMPTS)


@pytest.mark.slow
def test_the_recipe_runs_and_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    books = tmp_path / "data" / "gutenberg"
    books.mkdir(parents=True)
    (books / "a.txt.gz").write_bytes(gzip.compress(" ".join(t.text for t in stylebank()[:600]).encode()))
    out = tmp_path / "out"
    brief = {"data": tmp_path / "data", "out": out, "pretrain_minutes": 0.03, "teach_minutes": 0.05, "compiled": False}
    said: list[str] = []
    monkeypatch.setattr(recipe.console, "print", lambda text, **_: said.append(str(text)))

    recipe.main(stages=["pretrain", "teach"], **brief)
    assert (out / "models" / "base" / "model.safetensors").exists()
    first = (out / "models" / "base" / "model.safetensors").read_bytes()
    monkeypatch.setattr(
        recipe.adapters, "SETTINGS", recipe.adapters.SETTINGS.__class__(max_steps=2, batch_size=2, freeze_down=True)
    )
    recipe.main(stages=["pretrain", "teach", "adapters"], only=["concise"], **brief)
    assert (out / "models" / "base" / "model.safetensors").read_bytes() == first
    assert load_base(out / "models" / "base").adapter(out / "models" / "concise").modules
    with pytest.raises(InputError, match="There is no stage"):
        recipe.main(stages=["none"], **brief)
    with pytest.raises(InputError, match="needs the books"):
        monkeypatch.delenv("XPERT_DATA", raising=False)
        recipe.main(stages=["pretrain"], out=tmp_path / "other")


@pytest.mark.slow
def test_training_is_taken_up_from_its_checkpoint(tmp_path: Path) -> None:
    import itertools

    import torch

    from xpert_starter.recipe import loop

    base = load_base("starter:base")
    ids = torch.tensor([base.tokenizer.encode(told("Why is the sky blue?", "poetic"))])
    batches = itertools.repeat((ids[:, :-1], ids[:, 1:], None))
    settings = {"learning_rate": 1e-3, "weight_decay": 0.0, "compiled": False, "say": lambda _: None}
    loop.train(base.model, batches, tmp_path / "c", minutes=0.02, **settings)
    state = json.loads((tmp_path / "c" / "state.json").read_text())
    assert state["step"] > 0
    before = {k: v.clone() for k, v in base.model.state_dict().items()}
    fresh = load_base("starter:base")
    loop.train(fresh.model, batches, tmp_path / "c", minutes=0.02, **settings)
    for name, value in fresh.model.state_dict().items():
        torch.testing.assert_close(value, before[name])
