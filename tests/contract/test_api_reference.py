"""The user's API reference holds to the letter: its page is unchanged, and every block of it runs."""

import ast
import hashlib
import inspect
import re
import textwrap
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import collectors
from collectors import enums, interfaces, models
from collectors.mocks import (
    MockDataSource,
    MockErrorHandler,
    MockEventEmitter,
    MockPipeline,
    MockProcessor,
    MockStorageBackend,
)

PAGE = Path(__file__).parents[2] / "docs" / "api-reference.md"
TEXT = PAGE.read_text(encoding="utf-8")
SHA256 = "30c2d2bbb45c71a0a47d883468097c54fb41eea937472220b7c30ca75a6d8f06"
BLOCK_COUNT = 20
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def names_around() -> dict[str, Any]:
    """What a block may use without saying where it is from."""

    def create_error_info(error: Exception) -> models.ErrorInfo:
        return models.ErrorInfo(
            error_type=enums.ErrorType.CONNECTION,
            timestamp=datetime.now(),  # noqa: DTZ005 (as the page does)
            layer_name="collection",
            operation="collect",
            message=str(error),
        )

    return {
        **{name: getattr(models, name) for name in ("ErrorInfo", "SystemEvent", "QueryCriteria")},
        **{name: getattr(models, name) for name in ("ProcessingResult", "CollectedData")},
        **{name: getattr(enums, name) for name in ("ErrorType", "EventType")},
        **{name: getattr(interfaces, name) for name in interfaces.__all__},
        "Any": Any,
        "Dict": dict,
        "datetime": datetime,
        "MockDataSource": MockDataSource,
        "CustomDataSource": MockDataSource,
        "CustomProcessor": MockProcessor,
        "CustomPipeline": MockPipeline,
        "CustomStorageBackend": MockStorageBackend,
        "CustomErrorHandler": MockErrorHandler,
        "CustomEventEmitter": MockEventEmitter,
        "validator": MockProcessor("validator"),
        "transformer": MockProcessor("transformer"),
        "enricher": MockProcessor("enricher"),
        "input_data": {"temperature": 21.5},
        "source_id": "sensor_001",
        "create_error_info": create_error_info,
    }


async def connected_names() -> dict[str, Any]:
    """Likewise, what is connected already."""
    source = MockDataSource("sensor_001")
    backend = MockStorageBackend("db_001")
    await source.connect()
    await backend.connect()
    return {
        **names_around(),
        "source": source,
        "backend": backend,
        "processor": MockProcessor("normalizer"),
        "data": {"temperature": 21.5},
        "error_handler": MockErrorHandler(),
        "event_emitter": MockEventEmitter(),
        "emitter": MockEventEmitter(),
    }


def body(block: str, around: dict[str, Any]) -> Any:
    """The block, as it is printed, as the body of an async function in a module with those names."""
    code = f"async def block():\n{textwrap.indent(block, '    ')}\n    return locals()\n"
    module = dict(around)
    # A name that the block assigns is local to it; the ones it reads before are given as defaults.
    assigned = {
        node.id
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    given = ", ".join(f"{name}={name}" for name in sorted(assigned & set(around)))
    exec(compile(code.replace("block():", f"block({given}):", 1), str(PAGE), "exec"), module)
    return module["block"]


def is_program(block: str) -> bool:
    """Whether the block starts an event loop of its own."""
    return "\nasyncio.run(" in block


def title(block: str) -> str:
    return next(
        (line.strip() for line in block.splitlines() if line.strip() and not line.startswith("#")), ""
    )


def test_the_page_is_the_users_own():
    assert hashlib.sha256(PAGE.read_bytes()).hexdigest() == SHA256


def test_every_block_is_found():
    assert len(BLOCKS) == TEXT.count("```python") == BLOCK_COUNT


@pytest.mark.parametrize("block", [b for b in BLOCKS if not is_program(b)], ids=title)
async def test_a_block_runs(block):
    run = body(block, await connected_names())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await run()
    never_awaited = [str(w.message) for w in caught if "was never awaited" in str(w.message)]
    assert bool(never_awaited) == ("# Bad" in block)
    assert len(caught) == len(never_awaited)


@pytest.mark.parametrize("block", [b for b in BLOCKS if is_program(b)], ids=title)
def test_a_program_runs(block, capsys):
    # It starts the event loop itself, so it is driven from outside one.
    run = body(block, names_around())()
    with pytest.raises(StopIteration):
        run.send(None)
    assert "Data stored at: memory://main_db/1" in capsys.readouterr().out


# What the page says in words


SECTION = re.compile(r"^### (I\w+)\n(.*?)(?=^### |^## |^---)", flags=re.MULTILINE | re.DOTALL)
METHOD = re.compile(r"^##### `(async )?(\w+)\((.*?)\) -> (.+?)`$", flags=re.MULTILINE)
METHODS = [
    (section[1], *method.groups())
    for section in SECTION.finditer(TEXT)
    for method in METHOD.finditer(section[2])
]


def test_every_method_is_found():
    assert len(METHODS) == TEXT.count("##### `")
    assert len({interface for interface, *_ in METHODS}) == 14


@pytest.mark.parametrize(("interface", "awaited", "method", "arguments", "result"), METHODS)
def test_a_method_has_its_signature(interface, awaited, method, arguments, result):
    function = getattr(getattr(interfaces, interface), method)
    signature = inspect.signature(function)
    expected = [argument.partition(":")[0].strip() for argument in arguments.split(", ") if ":" in argument]
    assert list(signature.parameters) == ["self", *expected]
    streams = method == "collect_stream"
    assert inspect.iscoroutinefunction(function) == (bool(awaited) and not streams)
    assert function.__isabstractmethod__
    printed = str(signature.return_annotation)
    assert printed.replace("list", "List").replace("Dict", "dict") == result.replace("list", "List")


MODELS = [
    (section, name, annotation)
    for section, fields in re.findall(
        r"^### (\w+)\n\n[^\n]+\n\n\*\*Fields:\*\*\n((?:- .*\n)+)", TEXT, flags=re.MULTILINE
    )
    for name, annotation in re.findall(r"^- `(\w+): (.+?)`", fields, flags=re.MULTILINE)
]


def test_every_field_is_found():
    assert len({model for model, *_ in MODELS}) == 5
    assert len(MODELS) == 26


@pytest.mark.parametrize(("model", "name", "annotation"), MODELS)
def test_a_model_has_its_field(model, name, annotation):
    field = getattr(models, model).model_fields[name]
    kind = re.sub(r"Optional\[(\w+)\]", r"\1", annotation).partition("[")[0].lower()
    assert kind in str(field.annotation).lower()
    assert ("Optional" in annotation) == (not field.is_required() and field.default is None)


MEMBERS = [
    (name, member)
    for name, members in re.findall(
        r"^### (\w+)\n\n[^\n]+:\n((?:- `[A-Z_]+` - .*\n)+)", TEXT, flags=re.MULTILINE
    )
    for member in re.findall(r"`([A-Z_]+)`", members)
]


def test_every_enumeration_is_complete():
    named: dict[str, list[str]] = {}
    for name, member in MEMBERS:
        named.setdefault(name, []).append(member)
    assert set(named) == {"CollectionStatus", "TaskStatus", "EventType", "ErrorType"}
    for name, members in named.items():
        assert [member.name for member in getattr(enums, name)] == members


def test_naive_times_are_local():
    naive = datetime(2026, 7, 1, 12, 0, 0)  # noqa: DTZ001 (that is the case)
    event = models.SystemEvent(event_type=enums.EventType.STORAGE_START, timestamp=naive, source="test")
    assert event.timestamp == naive.astimezone()
    assert event.timestamp.utcoffset().total_seconds() == 0


def test_everything_public_can_be_imported_from_the_package():
    for name in interfaces.__all__:
        assert getattr(collectors, name) is getattr(interfaces, name)
    for name in collectors.__all__:
        assert getattr(collectors, name)
    from collectors import mocks

    assert {name for name in collectors.__all__ if name.startswith("Mock")} == {
        name for name in mocks.__all__ if name.startswith("Mock")
    }
