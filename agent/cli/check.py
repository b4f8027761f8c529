"""`outstation check`: says whether a configuration is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.cli.exit_status import DONE, WRONG_CONFIGURATION
from agent.cli.loading import load
from agent.config.advice import advice_of
from agent.config.files import FOLDER

if TYPE_CHECKING:
    import argparse

    from agent.config import AgentConfig


def _files(config: AgentConfig) -> str:
    """The file, and how many of `conf.d` were read with it."""
    first, *further = config.files
    return f"{first} with {', '.join(f'{FOLDER}/{file.name}' for file in further)}" if further else str(first)


def main(arguments: argparse.Namespace) -> int:
    """Check, and say what the configuration amounts to."""
    config = load(arguments.config, check_files=True)
    if config is None:
        return WRONG_CONFIGURATION
    sources = ", ".join(f"{source.id} ({source.driver})" for source in config.source)
    upstreams = ", ".join(f"{upstream.name} ({upstream.driver})" for upstream in config.upstream)
    print(f"{_files(config)} is right: sources {sources}; upstreams {upstreams or 'none'}")
    for source_id, advice in advice_of(config):
        print(f"source {source_id}: {advice}")
    return DONE
