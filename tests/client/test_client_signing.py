"""Signed adapters: the signature travels with them, and what is not signed by the trusted key is not handed out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xpert.client.fake import FakeServer
from xpert.client.signing import FILE, check_adapter, write_signature
from xpert.core.errors import FileFormatError, InputError, UntrustedError
from xpert.core.signing import SecretKey

Connect = Callable[..., Any]


def test_what_is_pushed_signed_is_pulled_by_those_who_trust_the_key(
    fake: FakeServer, connect: Connect, adapter: Path, tmp_path: Path
) -> None:
    client, key = connect(), SecretKey.random()
    client.add_base("starter", "starter:base")
    signed = client.push(adapter, "starter", "signed", key=key)
    assert FILE in signed.files
    assert client.push(adapter, "starter", "signed", key=key).files == signed.files, "signed again it is the same"
    out = client.pull("starter", "signed", tmp_path / "out", trust=key.public())
    assert {path.name for path in out.iterdir()} == {FILE, "adapter_config.json", "adapter_model.safetensors"}
    assert client.pull("starter", "signed").is_dir()
    with pytest.raises(UntrustedError, match="another key"):
        client.pull("starter", "signed", tmp_path / "other", trust=SecretKey.random().public())
    client.push(adapter, "starter", "plain")
    with pytest.raises(UntrustedError, match=r"'plain' is not signed"):
        client.pull("starter", "plain", tmp_path / "plain", trust=key.public())
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "plain").exists()
    with pytest.raises(InputError, match="public key"):
        client.pull("starter", "signed", trust="no key")


def test_a_changed_or_added_file_is_not_covered_by_the_signature(adapter: Path, tmp_path: Path) -> None:
    folder, key = Path(shutil.copytree(adapter, tmp_path / "a")), SecretKey.random()
    write_signature(folder, folder, key)
    files = {path.name: "" for path in folder.iterdir()}
    check_adapter(folder, files, key.public(), name="a")
    with pytest.raises(UntrustedError, match=r"extra\.json, which no signature covers"):
        check_adapter(folder, {**files, "extra.json": ""}, key.public(), name="a")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 99}))
    with pytest.raises(UntrustedError, match="was changed"):
        check_adapter(folder, files, key.public(), name="a")
    (folder / FILE).write_text("{")
    with pytest.raises(FileFormatError):
        check_adapter(folder, files, key.public(), name="a")
