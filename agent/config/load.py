"""Reads a configuration in TOML and reports everything that is wrong with it at once.

Sections that every source, step and upstream share are checked here; what belongs to one driver or
processor is checked by that part's own pydantic model, which the `Catalogue` finds by name.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from agent.config.errors import (
    ConfigurationError,
    Problem,
    shown,
    unknown_choice,
    unknown_key,
)
from agent.config.files import LISTS, Merged, merge, read_documents
from agent.config.model import (
    SOCKET_PATH_BYTES_MAX,
    AgentConfig,
    AgentSection,
    BufferConfig,
    DeviceConfig,
    PipelineConfig,
    SourceConfig,
    StepConfig,
    UpstreamConfig,
)
from agent.config.sessions import shared_sessions
from agent.config.wording import problems_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

_M = TypeVar("_M", bound=BaseModel)
_SECTIONS = ("device", "source", "pipeline", "buffer", "upstream", "agent")


@dataclass(frozen=True, slots=True)
class Kind:
    """The parts of one kind that a configuration can name, and how to get the model of one's options."""

    what: str
    names: Collection[str]
    options_of: Callable[[str], type[BaseModel]]
    presets_of: Callable[[str], Mapping[str, Mapping[str, Any]]] = lambda _name: {}
    """The ready configurations of a part, each by the name that its key `preset` says."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that a configuration can name."""

    sources: Kind
    processors: Kind
    upstreams: Kind
    driver_for: Callable[[object], str | None] = lambda _: None
    """The driver of an upstream that names none, by its url."""


def load_config(
    path: Path, catalogue: Catalogue, *, check_files: bool = False, note_secrets: bool = False
) -> AgentConfig:
    """The configuration in a file, and in those of the folder `conf.d` beside it.

    Args:
        path: The file. What any of them names by a relative path is looked for in its folder.
        catalogue: What it can name.
        check_files: Whether the secrets and certificates that it names must be there and readable.
        note_secrets: Whether a configuration whose secrets have changed is to be another one, as far as they can be read.

    Raises:
        ConfigurationError: The file cannot be read or something in it is wrong; holds every problem.
    """
    context: dict[str, Any] = {
        "folder": path.parent.absolute(),
        "check_files": check_files,
        "note_secrets": note_secrets,
        "secret_files": [],
    }
    merged = merge(read_documents(path))
    try:
        config = _Loader(catalogue, context, merged).load(str(path))
    except ConfigurationError as error:
        error.secret_files = tuple(context["secret_files"])
        raise
    return config.model_copy(
        update={
            "files": tuple(document.path for document in merged.documents),
            "secret_files": tuple(context["secret_files"]),
        }
    )


class _Loader:
    """One reading of one document; collects the problems on the way."""

    def __init__(self, catalogue: Catalogue, context: dict[str, Any], merged: Merged) -> None:
        self._catalogue = catalogue
        self._folder: Path = context["folder"]
        self._context = context
        self._merged = merged
        self._problems = list(merged.problems)

    def load(self, source: str) -> AgentConfig:
        document = self._merged.tables
        for key, value in document.items():
            if key not in _SECTIONS:
                self._wrong([key], _unknown_section(key, value))
        device = self._section(DeviceConfig, document.get("device", {}), ["device"])
        buffer = self._section(BufferConfig, document.get("buffer", {}), ["buffer"])
        agent = self._section(AgentSection, document.get("agent", {}), ["agent"])
        sources = self._sources(document.get("source", []))
        pipelines = self._pipelines(document.get("pipeline", []))
        upstreams = self._upstreams(document.get("upstream", []))
        if self._problems or device is None or buffer is None or agent is None:
            raise ConfigurationError(self._problems, source)
        config = AgentConfig(
            device=device,
            source=tuple(sources),
            pipeline=tuple(pipelines),
            buffer=buffer.model_copy(update={"path": self._folder / buffer.path}),
            upstream=tuple(upstreams),
            agent=agent.model_copy(update={"socket": agent.socket and self._folder / agent.socket}),
        )
        self._check_whole(config)
        if self._problems:
            raise ConfigurationError(self._problems, source)
        return config

    def _check_whole(self, config: AgentConfig) -> None:
        """What shows only when all parts are known."""
        for clash in shared_sessions(config):
            message = (
                f"has the same client id as {self._merged.named(clash.other)} at the same broker, which would give"
                " the session to one of them only; give each a `client_id` of its own"
            )
            self._wrong(clash.where, message, repr(clash.client_id) if clash.own else None)
        if len(bytes(config.socket)) > SOCKET_PATH_BYTES_MAX:
            message = f"no socket's path may be longer than {SOCKET_PATH_BYTES_MAX} bytes"
            if config.agent.socket is not None:
                self._wrong(
                    ["agent", "socket"], f"{message}: choose a shorter one", shown("", str(config.socket))
                )
            else:
                message = (
                    f"{message}, and the agent's lies in this folder: say another place as `agent.socket`"
                )
                self._wrong(["buffer", "path"], message, shown("", str(config.buffer.path)))

    def _wrong(self, where: Sequence[str | int], message: str, value: str | None = None) -> None:
        self._problems.append(self._merged.problem(where, message, value))

    def _section(
        self, model: type[_M], table: Any, where: Sequence[str | int], also: Iterable[str] = ()
    ) -> _M | None:
        if not isinstance(table, dict):
            heading = f", below one heading [{where[-1]}]" if isinstance(table, list) else ""
            self._wrong(where, f"should be a table of keys{heading}", shown(str(where[-1]), table))
            return None
        try:
            return model.model_validate(table, context=self._context)
        except ValidationError as error:
            self._problems += self._all_problems(error, model, table, where, also)
            return None

    def _all_problems(
        self,
        error: ValidationError,
        model: type[BaseModel],
        table: Mapping[str, Any],
        where: Sequence[str | int],
        also: Iterable[str],
    ) -> list[Problem]:
        """Also what a file that is not there would hide: keys are held against each other only where each is right."""
        problems = problems_of(error, model, where, self._merged.problem, also)
        if self._context["check_files"]:
            without_files = {**self._context, "check_files": False, "secret_files": []}
            try:
                model.model_validate(table, context=without_files)
            except ValidationError as other:
                more = problems_of(other, model, where, self._merged.problem, also)
                problems += [problem for problem in more if problem not in problems]
        return problems

    def _part(
        self,
        kind: Kind,
        key: str,
        shared: type[_M],
        table: Any,
        where: Sequence[str | int],
        given: Mapping[str, Any] | None = None,
    ) -> _M | None:
        """One table of a kind: the shared keys by `shared`, the others by the named part's own model."""
        if not isinstance(table, dict):
            heading = ".".join(part for part in where if isinstance(part, str))
            message = f"should be a table of keys, below a heading [[{heading}]]"
            self._wrong(where, message, shown(str(where[-1]), table))
            return None
        own = {name: value for name, value in table.items() if name in shared.model_fields}
        rest = {name: value for name, value in table.items() if name not in own}
        # `options` is how the checked rest is handed on; in the file it is a key like any other.
        if "options" in own:
            rest["options"] = own.pop("options")
        section = self._section(shared, {**(given or {}), **own}, where)
        name = table.get(key)
        if not isinstance(name, str):
            return None
        if name not in kind.names:
            self._wrong([*where, key], unknown_choice(kind.what, kind.names, name), shown(key, name))
            return None
        try:
            model = kind.options_of(name)
        except ValueError as error:  # another package brings it, and does not work
            self._wrong([*where, key], str(error), shown(key, name))
            return None
        if section is not None:  # a key that is the driver's as well, such as `silent_after`
            rest |= {name: getattr(section, name) for name in own if name in model.model_fields}
        found = len(self._problems)
        options = self._section(model, rest, where, set(shared.model_fields) - {"options"})
        presets = kind.presets_of(name)
        if presets and "preset" in rest and rest["preset"] not in presets:  # what it would fill in is no news
            own_problems = self._problems[found:]
            self._problems[found:] = [each for each in own_problems if each.message != "is required"]
        if section is None or options is None:
            return None
        return section.model_copy(update={"options": options})

    def _sources(self, tables: Sequence[Any]) -> list[SourceConfig]:
        sources = []
        if not tables and "source" not in {problem.where for problem in self._problems}:
            some = " in one of the files" if len(self._merged.documents) > 1 else ""
            message = f'is required: at least one [[source]]{some} with an id and a driver, say "serial"'
            self._wrong(["source"], message)
        for place, table in enumerate(map(self._with_preset, tables)):
            where: list[str | int] = ["source", place]
            source = self._part(self._catalogue.sources, "driver", SourceConfig, table, where)
            if source is not None:
                self._check_codec(source, where)
                sources.append(source)
        self._unique("source", "id", [t.get("id") for t in tables if isinstance(t, dict)])
        return sources

    def _check_codec(self, source: SourceConfig, where: list[str | int]) -> None:
        """Not every driver has something for every codec: one that does not checks that."""
        check = getattr(source.options, "check_codec", None)
        if check is not None:
            try:
                check(source.codec.type)
            except ValueError as error:
                self._wrong([*where, "codec"], str(error), repr(source.codec.type))

    def _with_preset(self, table: Any) -> Any:
        """A source with what its preset fills in; a preset that there is not is the driver's to refuse."""
        if not isinstance(table, dict) or not isinstance(driver := table.get("driver"), str):
            return table
        preset = table.get("preset")
        found = self._catalogue.sources.presets_of(driver).get(preset) if isinstance(preset, str) else None
        return table if found is None else {**found, **table}

    def _check_named(self, source_ids: Iterable[str] | None, where: Sequence[str | int]) -> None:
        """Who names sources names some that there are, be they right or wrong themselves."""
        tables = [table for table in self._merged.tables.get("source", []) if isinstance(table, dict)]
        known = [table["id"] for table in tables if isinstance(table.get("id"), str)]
        for index, source_id in enumerate(source_ids or ()):
            if source_id not in known:
                message = unknown_choice("source", known, source_id)
                self._wrong([*where, "sources", index], message, repr(source_id))

    def _pipelines(self, tables: Sequence[Any]) -> list[PipelineConfig]:
        pipelines: list[PipelineConfig] = []
        names: list[Any] = []
        for place, table in enumerate(tables):
            where: list[str | int] = ["pipeline", place]
            own = table
            if isinstance(table, dict):
                own = {"name": f"pipeline-{place + 1}"} | {k: v for k, v in table.items() if k != "step"}
                names.append(own["name"])
            pipeline = self._section(PipelineConfig, own, where)
            steps = self._steps(table, where) if isinstance(table, dict) else []
            if pipeline is None:
                continue
            self._check_named(pipeline.sources, where)
            pipelines.append(pipeline.model_copy(update={"step": steps}))
        self._unique("pipeline", "name", names)
        return pipelines

    def _steps(self, pipeline: Mapping[str, Any], where: Sequence[str | int]) -> list[StepConfig]:
        steps: list[StepConfig] = []
        tables = pipeline.get("step", [])
        if not isinstance(tables, list):
            self._wrong([*where, "step"], "should be a list of tables; write [[pipeline.step]] above each")
            return steps
        for index, table in enumerate(tables):
            place = [*where, "step", index]
            step = self._part(self._catalogue.processors, "processor", StepConfig, table, place)
            if step is not None:
                steps.append(step)
        return steps

    def _upstreams(self, tables: Sequence[Any]) -> list[UpstreamConfig]:
        upstreams = []
        names: list[Any] = []
        for place, table in enumerate(map(self._with_driver, tables)):
            where: list[str | int] = ["upstream", place]
            # What is delivered is remembered by the upstream's name, so it must not depend on the
            # place in the file: alone of its kind it takes the driver's name, else it needs its own.
            driver = table.get("driver") if isinstance(table, dict) else None
            given = {"name": driver if isinstance(driver, str) else "unnamed"}
            if isinstance(table, dict) and driver is None and isinstance(url := table.get("url"), str):
                message = (
                    "is of no upstream that there is: write it like mqtts://broker.example.com, https://host/path or"
                    " nats://host, or say which `driver` it is for"
                )
                self._wrong([*where, "url"], message, shown("url", url))
                continue
            upstream = self._part(self._catalogue.upstreams, "driver", UpstreamConfig, table, where, given)
            names.append(table.get("name", given["name"]) if isinstance(table, dict) else None)
            if upstream is not None:
                self._check_named(getattr(upstream.options, "sources", None), where)
                upstreams.append(upstream)
        self._unique("upstream", "name", names)
        return upstreams

    def _with_driver(self, table: Any) -> Any:
        """An upstream with the driver that its url names, when it names none itself."""
        if not isinstance(table, dict) or "driver" in table:
            return table
        driver = self._catalogue.driver_for(table.get("url"))
        return table if driver is None else {**table, "driver": driver}

    def _unique(self, section: str, key: str, names: Sequence[Any]) -> None:
        for name, count in Counter(name for name in names if isinstance(name, str)).items():
            if count > 1:
                places = [place for place, other in enumerate(names) if other == name]
                users = " and ".join(self._merged.named([section, place]) for place in places)
                article = "an" if key == "id" else "a"
                message = f"is used by {users}; give each {article} `{key}` of its own"
                self._wrong([section, places[-1], key], message, repr(name))


def _unknown_section(key: str, value: Any) -> str:
    if key == "step":
        return "is not a section; the steps of a [[pipeline]] stand below it, each as [[pipeline.step]]"
    if isinstance(value, dict | list):
        return unknown_key(key, _SECTIONS, "section")
    return f"stands above all sections; a key belongs below one: {', '.join(map(_heading, _SECTIONS))}"


def _heading(section: str) -> str:
    return f"[[{section}]]" if section in LISTS else f"[{section}]"
