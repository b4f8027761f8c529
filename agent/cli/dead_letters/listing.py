"""`outstation dead-letters list` and `show`."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from agent.cli.buffer.words import short_time
from agent.cli.dead_letters.looking import letters, whose
from agent.cli.exit_status import DONE, FAILED
from agent.dead_letters import Letter, UnreadableLetterError
from agent.status.text import counted, size
from buffer.export import time_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from agent.cli.dead_letters.looking import Found
    from agent.config import AgentConfig
    from agent.dead_letters import Selection

_ROW_BYTES: Final = 16
_GROUPS_SHOWN: Final = 20
_GROUPS_MAX: Final = 10_000


def run(arguments: argparse.Namespace, config: AgentConfig, selection: Selection) -> int:
    """Print them; 1 when `show` finds none."""
    found = letters(config, selection)
    if arguments.action == "show":
        return _show(found)
    if arguments.json:
        for each in found:
            print(json.dumps(_row(each), separators=(",", ":")))
        return DONE
    groups: Counter[tuple[str, str]] = Counter()
    width = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else 1000
    for each in found:
        if not groups:
            print(f"{'id':>9}  {'came':<20}  {'whose':<16}  {'stage':<16}  {'size':>8}  reason")
        group = whose(each.letter), each.letter.stage
        if len(groups) < _GROUPS_MAX or group in groups:
            groups[group] += 1
        print(_line(each)[:width])
    print("\n".join(_totals(groups)))
    return DONE


def _row(found: Found) -> dict[str, Any]:
    letter = found.letter
    return {
        "id": letter.letter_id,
        "time": time_text(letter.t),
        "sources": letter.sources,
        "upstream": letter.upstream,
        "stage": letter.stage,
        "reason": letter.reason,
        "size_bytes": _size(letter),
        "readings": len(letter.pairs()),
        "on_way_to": found.on_way_to,
    }


def _size(letter: Letter) -> int:
    try:
        raw = letter.raw
    except UnreadableLetterError:
        return 0
    return len(to_json(letter.document["readings"])) if raw is None else len(raw)


def _line(found: Found) -> str:
    letter = found.letter
    way = f"on its way to {found.on_way_to} again; " if found.on_way_to else ""
    reason = " ".join(f"{way}{letter.reason}".split())
    return (
        f"{letter.letter_id:>9}  {short_time(time_text(letter.t)):<20}  {whose(letter):<16}  {letter.stage:<16}"
        f"  {size(_size(letter)):>8}  {reason}"
    )


def _totals(groups: Counter[tuple[str, str]]) -> Iterator[str]:
    if not groups:
        yield "no dead letters"
        return
    yield ""
    yield counted(groups.total(), "dead letter")
    for (name, stage), count in groups.most_common(_GROUPS_SHOWN):
        yield f"  {count:>9,}  {name}, {stage}"


def _show(found: Iterator[Found]) -> int:
    status = FAILED
    for each in found:
        status = DONE
        print("\n".join(_whole(each)), end="\n\n")
    if status is FAILED:
        print("there is no such dead letter", file=sys.stderr)
    return status


def _whole(found: Found) -> Iterator[str]:
    letter = found.letter
    yield f"dead letter {letter.letter_id}, {time_text(letter.t)}"
    yield f"  {'upstream' if letter.upstream else 'source'}    {whose(letter)}"
    yield f"  stage     {letter.stage}"
    yield f"  reason    {letter.reason}"
    if found.on_way_to:
        yield f"  it is on its way to {found.on_way_to} again"
    for name, value in letter.document.items():
        if name not in {"t", "source", "upstream", "stage", "reason", "raw", "readings"}:
            yield f"  {name:<8}  {value if isinstance(value, str) else json.dumps(value)}"
    try:
        raw = letter.raw
    except UnreadableLetterError as error:
        yield f"  {error}"
        return
    if raw is not None:
        yield f"  {counted(len(raw), 'byte')}:"
        yield from _dump(raw)
    for seq, document in letter.pairs():
        yield f"    {seq or '':>9}  {json.dumps(document, ensure_ascii=False)}"


def _dump(raw: bytes) -> Iterator[str]:
    for at in range(0, len(raw), _ROW_BYTES):
        row = raw[at : at + _ROW_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)  # noqa: PLR2004 (printable ASCII)
        yield f"    {at:08x}  {row.hex(' '):<{3 * _ROW_BYTES - 1}}  {text}"
