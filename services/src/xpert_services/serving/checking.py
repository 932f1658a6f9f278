"""`python -m xpert_services.serving.checking FILE`: whether a configuration for `serve deploy` says what Serve and a site know.

Serve itself passes over what it does not know, so that a slip of the pen is a default.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from ray.serve.schema import ServeDeploySchema

from xpert.core.errors import InputError, XpertError
from xpert_services.serving.args import SiteArgs

BUILDER = "xpert_services.serving.application:app"


def check(path: Path) -> list[SiteArgs]:
    """Return the sites of a configuration.

    Raises
    ------
    InputError
        It is none, something in it is unknown, or it holds no site.
    """
    try:
        config = ServeDeploySchema.model_validate(yaml.safe_load(path.read_bytes()), extra="forbid")
        sites = [SiteArgs.model_validate(each.args) for each in config.applications if each.import_path == BUILDER]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"'{path}' cannot be deployed: {error}") from error
    if not sites:
        raise InputError(f"'{path}' deploys no site: expected an application with the import_path '{BUILDER}'.")
    return sites


def main(arguments: list[str]) -> int:
    """Check the files that are named; returns the exit status."""
    try:
        for name in arguments:
            sys.stdout.write(f"{name}: {', '.join(site.store for site in check(Path(name)))}\n")
    except XpertError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
