from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from xpert.core.errors import FileFormatError, InputError, MismatchError, MissingExtraError, NotFoundError, UnsafeFileError
from xpert.models.adapters import BASE_KEY, read_adapter
from xpert.models.base import BaseModel, load_base
from xpert.models.digest import base_digest
from xpert.models.encoders import SummarizerEncoder
from xpert.models.names import listed, resolve
from xpert.models.prompting import answer_ids, prompt_ids


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_digest_ignores_sharding_and_library_notes_but_no_weight(llama: Path, tmp_path: Path) -> None:
    expected = base_digest(llama)
    model = AutoModelForCausalLM.from_pretrained(llama)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert base_digest(tmp_path / "shards") == expected
    changed = copy(llama, tmp_path / "changed")
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "transformers_version": "0"}))
    assert base_digest(changed) == expected
    weights = load_file(changed / "model.safetensors")
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, changed / "model.safetensors")
    assert base_digest(changed) != expected


def test_pickled_bases_are_refused_unread(llama: Path, tmp_path: Path) -> None:
    folder = copy(llama, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UnsafeFileError, match=r"pytorch_model\.bin"):
        load_base(folder)
    torch.save({}, folder / "model.safetensors")
    with pytest.raises(UnsafeFileError, match="could run code"):
        load_base(folder)


def test_broken_bases_say_what_is_wrong(llama: Path, tmp_path: Path) -> None:
    folder = copy(llama, tmp_path / "cut")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(FileFormatError, match="Was it cut"):
        load_base(folder)
    weights = load_file(llama / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FileFormatError, match=r"NaN or infinity in model\.norm\.weight"):
        load_base(folder)
    whole = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**whole, "hidden_size": "wide"}))
    with pytest.raises(FileFormatError, match="hidden_size"):
        load_base(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(FileFormatError, match="config"):
        load_base(folder)
    with pytest.raises(NotFoundError, match="holds no"):
        load_base(tmp_path)


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(tmp_path) == tmp_path
    for name in ("./nothing", "nothing", "a/b/c"):
        with pytest.raises(NotFoundError, match="There is no model"):
            resolve(name)
    with pytest.raises(MissingExtraError, match="No collection of models 'other:'"):
        resolve("other:thing")
    with pytest.raises(MissingExtraError, match="other"):
        listed("other")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFoundError, match="Cannot fetch 'org/name'"):
        resolve("org/name")


def test_prompts_follow_the_chat_template(base: BaseModel, qwen: Path) -> None:
    tokenizer = base.tokenizer
    assert tokenizer.decode(prompt_ids(tokenizer, "Hi")) == "<|user|>Hi<|assistant|>"
    assert answer_ids(tokenizer, "Hi")[-1] == tokenizer.eos_token_id
    assert load_base(qwen).tokenizer.decode(prompt_ids(load_base(qwen).tokenizer, "Hi")) == "Hi\n"


def test_written_adapters_load_in_peft_unchanged(base: BaseModel, adapters: dict[str, Path], llama: Path) -> None:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama), str(adapters["a"])).merge_and_unload()
    ours = base.adapter(adapters["a"])
    for module, pair in ours.modules.items():
        expected = base.model.get_submodule(module).weight + torch.from_numpy(pair.B @ pair.A) * pair.scaling
        torch.testing.assert_close(model.get_submodule(module).weight, expected, atol=1e-6, rtol=1e-5)
    assert ours.base_digest == base.digest
    assert ours.n_bytes == (adapters["a"] / "adapter_model.safetensors").stat().st_size


def test_adapters_of_another_base_are_refused(base: BaseModel, adapters: dict[str, Path], qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="it was made for the base"):
        load_base(qwen).adapter(adapters["a"])
    folder = copy(adapters["a"], tmp_path / "unbound")
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(weights, folder / "adapter_model.safetensors")
    assert base.adapter(folder).base_digest == ""
    key = next(name for name in weights if "lora_A" in name)
    save_file({**weights, key: weights[key][:, :-1].contiguous()}, folder / "adapter_model.safetensors")
    with pytest.raises(MismatchError, match="the base's is"):
        base.adapter(folder)
    renamed = {name.replace("layers.1", "layers.9"): value for name, value in weights.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    with pytest.raises(MismatchError, match="the base has no"):
        base.adapter(folder)


def test_a_panic_of_the_tokenizer_library_is_an_error(llama: Path, tmp_path: Path) -> None:
    folder = copy(llama, tmp_path / "base")
    path = folder / "tokenizer.json"
    whole = json.loads(path.read_bytes())
    vocab = {**whole["model"]["vocab"], "": 0}
    whole["model"] = {"type": "BPE", "continuing_subword_prefix": "##", "vocab": vocab, "merges": [["", ""]]}
    path.write_text(json.dumps(whole))
    with pytest.raises(FileFormatError, match=r"Cannot load .* Check its files"):
        load_base(folder)


def test_broken_adapters_list_every_problem(adapters: dict[str, Path], tmp_path: Path) -> None:
    folder = copy(adapters["a"], tmp_path / "broken")
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    names = sorted(weights)
    broken = {**weights, names[0]: torch.full_like(weights[names[0]], float("nan")), "odd.weight": torch.zeros(1)}
    save_file(broken, path)
    with pytest.raises(FileFormatError, match=r"(?s)NaN.*|unknown weight") as caught:
        read_adapter(folder)
    assert "odd.weight" in str(caught.value)
    assert "has only lora_" in str(caught.value)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(FileFormatError, match="cut"):
        read_adapter(folder)
    path.unlink()
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(UnsafeFileError, match=r"adapter_model\.bin"):
        read_adapter(folder)
    with pytest.raises(NotFoundError, match="no adapter folder"):
        read_adapter(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "match"),
    [({"peft_type": "IA3"}, "only LoRA"), ({"use_dora": True}, "use_dora"), ({"bias": "all"}, "bias"), (None, "not JSON")],
)
def test_other_kinds_of_adapters_are_refused(
    adapters: dict[str, Path], tmp_path: Path, change: dict[str, object] | None, match: str
) -> None:
    folder = copy(adapters["a"], tmp_path / "other")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text("{" if change is None else json.dumps({**config, **change}))
    with pytest.raises(FileFormatError, match=match):
        read_adapter(folder)


def test_base_digest_travels_in_the_metadata(adapters: dict[str, Path], base: BaseModel) -> None:
    from safetensors import safe_open

    with safe_open(adapters["a"] / "adapter_model.safetensors", framework="numpy") as file:
        assert file.metadata()[BASE_KEY] == base.digest


def test_summarizer_encoder_reads_the_next_token_state(base: BaseModel) -> None:
    encoder = SummarizerEncoder(base)
    rows = encoder.encode(["A short text.", "Another, rather longer text; with marks!"])
    assert rows.shape == (2, encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    words = encoder.candidate_words("A short text.", n=5)
    assert len(words) == 5
    assert words[0][1] >= words[1][1] > 0


def test_tokenizers_without_an_end_are_refused(llama: Path, tmp_path: Path) -> None:
    folder = copy(llama, tmp_path / "endless")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("eos_token", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="end-of-text"):
        load_base(folder)
