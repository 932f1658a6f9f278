"""Makes in ``target/prepared`` what the Android library's tests run on: the native library of this machine, and starter models.

``python mobile/android/prepare.py`` from the locked environment; models that are there are kept. The answers of Python that the
tests hold the library against are those of `xpert.core.selection.choose` on StyleBank texts.
"""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from xpert.bench.population import populate
from xpert.core.catalogue import Candidates, Catalogue, Compact, load_compact, read_compact
from xpert.core.cells import CellIndex, load_cell
from xpert.core.cutting import cut
from xpert.core.data import PROBE_PROMPTS, stylebank, users
from xpert.core.encoder import Encoder
from xpert.core.files import write_atomic
from xpert.core.selection import Selection, choose
from xpert.core.signing import SUFFIX, SecretKey
from xpert.core.space import StyleSpace
from xpert.core.texts import PersonalText
from xpert.models.base import load_base
from xpert.models.encoders import default_encoder
from xpert.models.explaining import explain_answers
from xpert.models.names import listed, resolve
from xpert_mobile.bundle.making import export_bundle

HERE = Path(__file__).resolve().parent
OUT = HERE / "target" / "prepared"
N_PROBES = 20
"""Probes of the catalogue: the first of the unseen prompts. The others' answers are the users' texts."""

N_PLLMS = 400
"""In the catalogue that is cut into cells of a tenth of them."""


def main() -> None:
    """Make what is missing."""
    OUT.mkdir(parents=True, exist_ok=True)
    _native()
    if not (OUT / "starter.xpert").exists():
        _say("exporting a bundle of the starter models")
        export_bundle("starter:base", OUT / "starter.xpert", cache=OUT / "cache", say=_say)
    _adapters()
    if not (OUT / "golden.json").exists():
        _say("asking Python for its choices")
        _golden()
    if not (OUT / "cells.json").exists():
        _say("cutting a larger catalogue into cells")
        _cells()


def _native() -> None:
    """Copy the native library with what it loads; always, as its sources may have changed."""
    built = runpy.run_path(str(HERE.parent / "native/tools/build.py"))["Build"](tests=True).build() / "lib"
    if not (built / "libxpert_jni.so").exists():
        sys.exit("prepare: the native core was built without libxpert_jni. Install a JDK (17 or newer) and build again.")
    shutil.copytree(built, OUT / "lib", dirs_exist_ok=True)


def _adapters() -> None:
    """Copy the starter's adapters, one of them signed as at publication."""
    for name in (name.partition(":")[2] for name in listed("starter")):
        shutil.copytree(resolve(f"starter:{name}"), OUT / "adapters" / name, dirs_exist_ok=True)
    key = SecretKey.random()
    shutil.copytree(OUT / "adapters/poetic", OUT / "signed", dirs_exist_ok=True)
    for path in [path for path in (OUT / "signed").iterdir() if path.suffix != SUFFIX]:
        write_atomic(path.with_name(path.name + SUFFIX), key.sign(path.read_bytes(), comment=path.name).encode())
    write_atomic(OUT / "key.pub", key.public_file().encode())


def _golden() -> None:
    """Write a catalogue of the starter's styles, and what Python chooses from it for texts of each style."""
    base, space, encoder = load_base("starter:base"), StyleSpace.default(), default_encoder()
    bank = {(text.style, text.id): text.text for text in stylebank()}
    ids = sorted(PROBE_PROMPTS)
    styles = sorted({style for style, _ in bank} - {"neutral"})
    # The StyleBank's texts stand in for what the models would answer: minutes of generation less, and the choice is as real.
    names = {name.partition(":")[2]: name for name in listed("starter")}
    adapters = {name: base.adapter(names[name]) for name in styles if name in names}
    answers = {name: [bank[name, i] for i in ids[:N_PROBES]] for name in adapters}
    answers[""] = [bank["neutral", i] for i in ids[:N_PROBES]]
    path = OUT / "starter.xcat.safetensors"
    Catalogue.of(explain_answers(base, adapters, answers, space=space, encoder=encoder)).export_compact(path)
    asked = {style: [bank[style, i] for i in ids[N_PROBES:]] for style in [*styles, "neutral"]}
    asked |= {"few": asked["poetic"][:3], "mixed": asked["poetic"][:5] + asked["formal"][:5]}
    found = [_answer(style, texts, load_compact(path), space, encoder) for style, texts in asked.items()]
    texts = [user.text for user in users() if user.user == "u04"]
    write_atomic(OUT / "texts.json", json.dumps(texts).encode())
    write_atomic(OUT / "golden.json", json.dumps(found).encode())


def _cells() -> None:
    """Write a catalogue drawn from the StyleBank's answers, cut; what Python chooses from it; and the same with one pLLM less."""
    space, encoder = StyleSpace.default(), default_encoder()
    bank = {(text.style, text.id): text.text for text in stylebank()}
    styles = ["neutral", *sorted({style for style, _ in bank} - {"neutral"})]
    ids = sorted(PROBE_PROMPTS)
    vectors = encoder.encode([bank[style, i] for style in styles for i in ids])
    grid = space.coefficients(vectors).reshape(len(styles), len(ids), -1)
    drawn = OUT / "drawn.xcat.safetensors"
    drawn.write_bytes(populate(grid, N_PLLMS, seed=0).compact(space.words, encoder.dim - encoder.n_sentence, seed=0))
    whole = replace(read_compact(drawn), space_digest=space.digest)
    fewer = replace(whole, ids=whole.ids[1:], kib=whole.kib[1:], coefficients=whole.coefficients[1:])
    _cut(fewer, OUT / "other-cells")
    index = _cut(whole, OUT / "cells")
    found = []
    for row in json.loads((OUT / "golden.json").read_text()):
        own = space.coefficients(encoder.encode(row["texts"])).mean(0) - index.base_coefficients
        number = int(index.nearest(own)[0])
        candidates = load_cell(OUT / "cells" / index.cell_name(number), index, number)
        found.append({**_answer(row["style"], row["texts"], candidates, space, encoder), "cell": index.cell_name(number)})
    write_atomic(OUT / "cells.json", json.dumps(found).encode())


def _cut(whole: Compact, folder: Path) -> CellIndex:
    cells = cut(whole, lambda points, n: points[:: max(len(points) // n, 1)], capacity=N_PLLMS // 10)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "index").write_bytes(cells.index)
    index = CellIndex.load(folder / "index")
    (folder / "digest").write_text(index.digest)
    for number in range(len(cells.members)):
        (folder / index.cell_name(number)).write_bytes(cells.cell(number))
    return index


def _answer(style: str, texts: list[str], candidates: Candidates, space: StyleSpace, encoder: Encoder) -> dict[str, Any]:
    found: Selection = choose([PersonalText(text) for text in texts], candidates, space=space, encoder=encoder)
    return {
        "style": style,
        "texts": texts,
        "choice": found.choice,
        "abstain": found.abstain,
        "confidence": found.confidence,
        "margin": found.margin,
        "similarity": found.similarity,
        "words": {word.word: word.coefficient for word in found.words},
    }


def _say(what: str) -> None:
    print(f"prepare - {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
