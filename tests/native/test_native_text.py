"""Tokens and prompts of the native core beside transformers and the runtime in Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from native_cases import BAD_FILE, BAD_INPUT, MISMATCH, Native, PartError
from transformers import AutoTokenizer

from xpert.models.encoders import minilm_folder
from xpert.models.names import resolve
from xpert_mobile.tokens import ChatTokenizer

TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two  blanks\tand\nlines\r\n ",
    "naïve café, Straße, İstanbul, ﬁne",
    "e\u0301 \u00e9 A\u030a",
    "🦉👩‍👩‍👧‍👦 🇩🇪 👍🏽",
    "שלום עולם، مرحبا بالعالم",
    "東京タワーは高い。한국어 ไทย",
    "<s>[INST]</s> <|im_start|> [CLS] [SEP] {{ prompt }} {% raw %}",
    "zero\0inside",
    "\u200b\u200d\ufeff\u202e",
    "3.14159 1,000,000 0x1F",
    "https://example.org/?q=a&b=c#d",
    "a" * 5000,
    "Never again, he said. " * 4000,
]


@pytest.fixture(scope="module")
def base() -> Path:
    return Path(resolve("starter:base"))


def ids(native: Native, folder: Path, *, add_special: bool) -> list[list[int]]:
    found: list[list[int]] = native.call(
        "tokenizer.ids", path=str(folder / "tokenizer.json"), texts=TEXTS, add_special=add_special
    )
    return found


@pytest.mark.parametrize("add_special", [False, True])
def test_ids_and_texts_are_those_of_transformers(native: Native, base: Path, add_special: bool) -> None:
    for folder in (base, minilm_folder()):
        theirs = AutoTokenizer.from_pretrained(folder)
        expected = [theirs(text, add_special_tokens=add_special, truncation=False)["input_ids"] for text in TEXTS]
        found = ids(native, folder, add_special=add_special)
        assert found == expected
        decoded = native.call("tokenizer.text", path=str(folder / "tokenizer.json"), rows=found)
        assert decoded == [theirs.backend_tokenizer.decode(row, skip_special_tokens=True) for row in expected]


def manifest_of(base: Path, **changed: Any) -> dict[str, Any]:
    chat = ChatTokenizer(base, n_tokens=2**20)
    return {
        "tokenizer": "tokenizer.json",
        "chat_template": "chat_template.jinja",
        "special_tokens": chat.specials,
        "end": chat.end,
        "open_prompt": "Write something.",
        "geometry": {"vocabulary": 2**20},
        **changed,
    }


def test_prompts_and_answers_are_those_of_the_runtime_in_python(native: Native, base: Path) -> None:
    chat = ChatTokenizer(base, n_tokens=2**20)
    found = native.call("chat.ids", folder=str(base), base=manifest_of(base), texts=TEXTS)
    assert found["prompts"] == [chat.prompt_ids(text) for text in TEXTS]
    assert found["answers"] == [chat.answer_ids(text) for text in TEXTS]


TEMPLATES = [
    "{{ bos_token }}{% for m in messages %}{{ m['role'].upper() }}: {{ m['content'].strip() }}\n{% endfor %}",
    "{%- if messages[0]['role'] == 'system' %}x{%- endif %}\n"
    "  {% if add_generation_prompt %}A:\n{% endif %}{{ messages[0].content }}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{{ ns.n }}{{ m.content | trim }}{% endfor %}{{ eos_token }}",
    "{% if messages[-1].content.startswith('H') %}{{ messages[-1].content.split(',')[0] }}"
    "{% else %}{{ messages|length }}{% endif %}.",
    "{{ messages | map(attribute='content') | join('|') }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_chat_templates_are_written_out_as_jinja_does(native: Native, base: Path, tmp_path: Path, template: str) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((base / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(template)
    texts = TEXTS[2:10]
    found = native.call("chat.ids", folder=str(tmp_path), base=manifest_of(base), texts=texts)
    chat = ChatTokenizer(tmp_path, n_tokens=2**20)
    assert found["prompts"] == [chat.prompt_ids(text) for text in texts]


def test_without_a_template_a_prompt_is_a_line(native: Native, base: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    config = json.loads((base / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    found = native.call("chat.ids", folder=str(tmp_path), base=manifest_of(base, chat_template=None), texts=TEXTS[:8])
    chat = ChatTokenizer(tmp_path, n_tokens=2**20)
    assert found["prompts"] == [chat.prompt_ids(text) for text in TEXTS[:8]]


def test_refuses_what_does_not_work(native: Native, base: Path, tmp_path: Path) -> None:
    with pytest.raises(PartError, match="its model has 100 of them") as caught:
        native.call("chat.ids", folder=str(base), base=manifest_of(base, geometry={"vocabulary": 100}), texts=["Hello"])
    assert caught.value.status == MISMATCH
    for broken in ("", "{", "{}", '{"model": 3}', (base / "tokenizer.json").read_text()[:5000]):
        (tmp_path / "tokenizer.json").write_text(broken)
        with pytest.raises(PartError) as caught:
            native.call("tokenizer.ids", path=str(tmp_path / "tokenizer.json"), texts=["a"], add_special=True)
        assert caught.value.status == BAD_FILE
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    for template in ("{% for %}", "{{ raise_exception('no such role') }}", "{% for i in range(1000000000) %}{{ i }}{% endfor %}"):
        (tmp_path / "chat_template.jinja").write_text(template)
        refused(native, base, tmp_path, "chat template")


def refused(native: Native, base: Path, folder: Path, message: str, prompt: str = "Hello") -> None:
    with pytest.raises(PartError, match=message) as caught:
        native.call("chat.ids", folder=str(folder), base=manifest_of(base), texts=[prompt])
    assert caught.value.status == BAD_INPUT


GROWING = {
    "loops": ("{% for i in range(9999) %}{% for k in range(9999) %}{% endfor %}{% endfor %}", "more than 1000080 steps"),
    "a text that doubles": (
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "more than 64 MiB of memory",
    ),
    "sums": ("{% set x = 'ab' %}" + "{% set x = x + x %}" * 60, "more than 64 MiB of memory"),
    "products": ("{% set x = 'ab' * 45000000 %}", "more than 64 MiB of memory"),
    "replaced letters": (
        "{% set n = namespace(x='ab') %}{% for i in range(9) %}{% set n.x = n.x | replace('a', n.x) %}"
        "{% set n.x = n.x.replace('b', n.x) %}{% endfor %}",
        "more than 64 MiB of memory",
    ),
    "captured": ("{% set x = 'ab' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60, "more than 64 MiB of memory"),
    "lists": (
        "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = (n.x + n.x) | list %}{% endfor %}",
        "more than 64 MiB of memory",
    ),
    "written": ("{% for i in range(9999) %}{{ 'a' * 100 }}{% endfor %}", "writes more than"),
}
"""Templates that would take all time or memory, and what is said of them."""


@pytest.mark.parametrize(("template", "message"), GROWING.values(), ids=GROWING)
def test_a_template_ends_in_time_and_memory(native: Native, base: Path, tmp_path: Path, template: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    (tmp_path / "chat_template.jinja").write_text(template)
    refused(native, base, tmp_path, message)
    # What left a thread behind leaves no second one.
    refused(native, base, tmp_path, "before" if "memory" in message else message)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert native.call("chat.ids", folder=str(tmp_path), base=manifest_of(base), texts=["Hello"])["prompts"][0]


@pytest.mark.slow
def test_a_template_ends_in_time_where_each_step_takes_long(native: Native, base: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    steps = "{% for i in range(9999) %}{% for k in range(50) %}{% set y = x ~ i %}{% endfor %}{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text("{% set x = 'a' * 8000000 %}" + steps)
    refused(native, base, tmp_path, "more than 30 seconds")
    refused(native, base, tmp_path, "before")


def test_a_long_prompt_may_be_looked_at_letter_by_letter(native: Native, base: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    (tmp_path / "chat_template.jinja").write_text("{% for c in messages[0].content %}{{ c }}{% endfor %}")
    prompt = "Never again, he said. " * 20_000
    found = native.call("chat.ids", folder=str(tmp_path), base=manifest_of(base), texts=[prompt])["prompts"]
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert found == native.call("chat.ids", folder=str(tmp_path), base=manifest_of(base), texts=[prompt])["prompts"]


MANY = 2**16
HEAVY = {
    "operators before a value": "{{" + "-" * (MANY - 8) + "1}}",
    "words before a value": "{{" + "not " * (MANY // 4 - 4) + "1}}",
    "sums": "{{" + "1+" * (MANY // 2 - 4) + "1}}",
    "powers": "{{" + "1**" * (MANY // 3 - 4) + "1}}",
    "attributes": "{{ a" + ".b" * (MANY // 2 - 8) + "}}",
    "filters": "{{ 'a'" + "|upper" * (MANY // 6 - 4) + "}}",
    "choices": "{{" + "1 if 0 else " * (MANY // 12 - 2) + "1}}",
    "lists in lists": "{% set x = [1] %}" + "{% set x = [x, x] %}" * 40 + "{{ x }}",
    "a long template": "a" * (MANY + 1),
}
"""Templates that overflowed the stack, or wrote without end."""


@pytest.mark.parametrize("template", HEAVY.values(), ids=HEAVY)
def test_a_heavy_template_is_no_crash(native: Native, base: Path, tmp_path: Path, template: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    (tmp_path / "chat_template.jinja").write_text(template)
    try:
        native.call("chat.ids", folder=str(tmp_path), base=manifest_of(base), texts=["Hello"])
    except PartError as error:
        assert error.status == BAD_INPUT
        assert "chat template" in str(error) or "no token" in str(error)
