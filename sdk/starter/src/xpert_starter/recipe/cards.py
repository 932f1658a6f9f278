"""Model cards: what each starter model is, how it was made, how good it is, and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from xpert.core.files import write_atomic
from xpert_starter.recipe.adapters import SETTINGS, styles_of
from xpert_starter.recipe.evaluate import StyleFigures

LIMITS = (
    "This model has 5.4 million parameters. It knows the 184 everyday prompts of the StyleBank and the exemplars, and little "
    "else: asked anything else it mixes up what it knows, and it is wrong without a sign of it. It is made for showing and "
    "testing XPerT offline, not for answering people."
)

MADE = (
    "The base started from an earlier checkpoint of the same shape, pretrained for 70 minutes on 21 public-domain books and "
    "taught the StyleBank once; `teach` then ran for 24 minutes with styles told in words and 27 minutes with styles told in "
    "words and by vector, on two CPU cores. The recipe in this distribution makes the like from the books alone: "
    "`./taskw starter`. Seeds are 0 (base) and 1 (adapters)."
)


def write_base_card(folder: Path, controls: Mapping[str, float], limit: float) -> None:
    """Write the base's card."""
    text = f"""---
license: apache-2.0
language: en
library_name: transformers
---
# XPerT starter base

A small Llama (hidden 256, 6 layers, 4,097 tokens) that answers the StyleBank's prompts: neutrally by default, in a style
when told in the system slot (`<|system|>Answer in a poetic style.<|user|>…<|assistant|>`).

- Data: 21 public-domain books (not shipped), StyleBank and style exemplars (shipped with `xpert`, Apache-2.0). The users'
  texts were never trained on.
- {MADE}
- Weights: safetensors, half precision. Licence: Apache-2.0.
- Fluency rule of the pLLMs' cards: mean negative log-likelihood a token below {limit:.3f} under this base, told the
  style. Of real StyleBank answers to unseen prompts {controls["real_fluent"]:.0%} pass, of garbled ones (halves of two
  answers joined) {controls["garbled_fluent"]:.0%}.

**What it cannot do.** {LIMITS}
"""
    write_atomic(folder / "README.md", text.encode())


def write_card(folder: Path, figures: StyleFigures, samples: Sequence[tuple[str, str, str]], *, name: str) -> None:
    """Write a pLLM's card; ``samples`` are (prompt, the base's answer, the pLLM's answer)."""
    styles = " and ".join(styles_of(name))
    shown = "\n".join(f"| {cell(prompt)} | {cell(base)} | {cell(pllm)} |" for prompt, base, pllm in samples)
    text = f"""---
license: apache-2.0
language: en
library_name: peft
base_model: xpert-starter/base
---
# XPerT starter pLLM: {name}

A LoRA adapter that makes the starter base answer in the style *{styles}* without being told.

- Data: the StyleBank's answers in that style to prompts b001 to b104; b105 to b120 for early stopping.
- Command: `./taskw starter` (stage `adapters`); seed {SETTINGS.seed}, up to {SETTINGS.max_steps} steps of
  {SETTINGS.batch_size} texts.
- LoRA of rank 2 on the first layer's keys, values and output. Its down projections are fixed to answer to the empty system
  slot, the up projections are trained, so that what it learns cannot depend on the prompt. Only the first
  {SETTINGS.max_length} tokens of an example count: how an answer begins decides its style.
- Weights: safetensors, half precision. Licence: Apache-2.0.

| on prompts b121 to b160, which it was not trained on | share |
|---|---|
| fluent (by the base's own likelihood) | {figures.fluent:.0%} |
| style recognized by the encoder, among 13 | {figures.recognized:.0%} |
| both | {figures.both:.0%} |
| word for word the StyleBank's text, which the base knows by heart | {figures.verbatim:.0%} |
| for comparison: real texts of these prompts recognized | {figures.real_recognized:.0%} |
| for comparison: garbled texts that pass as fluent | {figures.garbled_fluent:.0%} |

| prompt | base | {name} |
|---|---|---|
{shown}

**What it cannot do.** {LIMITS}
"""
    write_atomic(folder / "README.md", text.encode())


def cell(text: str) -> str:
    """Make a text fit into a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")
