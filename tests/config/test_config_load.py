"""Every problem of a configuration is told at once: where, what stands there, what would be right."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from agent.config import AgentConfig, Catalogue, ConfigurationError, Kind, load_config
from agent.config.model import QUOTA_BYTES_MIN
from buffer.options import BufferOptions
from drivers.transport.credentials import ConfiguredFile


class PortOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    port: str
    baudrate: int = Field(default=115200, gt=0)
    parity: Literal["none", "even", "odd"] = "none"
    silent_after: float | None = Field(default=None, gt=1)


class BrokerOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str
    password: SecretStr | None = Field(default=None, min_length=4)
    word_file: ConfiguredFile | None = None


class BandOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    metric: str
    width: float = Field(ge=0)


CATALOGUE = Catalogue(
    sources=Kind(
        "driver", frozenset({"serial", "mqtt"}), {"serial": PortOptions, "mqtt": BrokerOptions}.__getitem__
    ),
    processors=Kind("processor", frozenset({"deadband"}), {"deadband": BandOptions}.__getitem__),
    upstreams=Kind("upstream", frozenset({"mqtt"}), {"mqtt": BrokerOptions}.__getitem__),
)

GOOD = """
[device]
id = "greenhouse-3"

[[source]]
id = "soil"
driver = "serial"
port = "/dev/ttyUSB0"
tags = { bed = "north" }

[[source]]
id = "hall"
driver = "mqtt"
url = "mqtt://localhost"

[[pipeline]]
sources = ["soil"]

[[pipeline.step]]
processor = "deadband"
metric = "temperature"
width = 0.1

[buffer]
path = "buffer"
quota = "2 GB"
keep_delivered = "3 days"

[[upstream]]
driver = "mqtt"
url = "mqtt://cloud:hunter2@example.com"
"""


def load(folder: Path, text: str, **options: bool) -> AgentConfig:
    path = folder / "agent.toml"
    path.write_text(text)
    return load_config(path, CATALOGUE, **options)


def problems(folder: Path, text: str) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    assert "agent.toml" in str(caught.value)
    return {problem.where: str(problem) for problem in caught.value.problems}


def test_a_good_file_is_loaded(tmp_path):
    config = load(tmp_path, GOOD)
    assert config.device.id == "greenhouse-3"
    assert [source.id for source in config.source] == ["soil", "hall"]
    assert config.source[0].options == PortOptions(port="/dev/ttyUSB0")
    assert config.source[0].tags == {"bed": "north"}
    assert config.pipeline[0].step[0].options == BandOptions(metric="temperature", width=0.1)
    assert config.buffer.path == tmp_path / "buffer"
    assert config.buffer.quota == 2 * 10**9
    assert config.buffer.keep_delivered == 3 * 86400
    assert config.upstream[0].name == "mqtt"
    assert [pipeline.name for pipeline in config.pipelines_of("soil")] == ["pipeline-1"]
    assert config.pipelines_of("hall") == ()


def test_all_problems_are_told_at_once(tmp_path):
    text = GOOD.replace('port = "/dev/ttyUSB0"', "baudrate = -1\npariti = 'even'").replace("width = 0.1", "")
    found = problems(tmp_path, text.replace('quota = "2 GB"', 'quota = "2 parsecs"'))
    assert set(found) == {
        "source[0].port",
        "source[0].baudrate",
        "source[0].pariti",
        "pipeline[0].step[0].width",
        "buffer.quota",
    }
    assert "is required" in found["source[0].port"]
    assert "greater than 0 (found -1)" in found["source[0].baudrate"]
    assert "did you mean `parity`?" in found["source[0].pariti"]
    assert '"2 GB" or "512 MiB" (found \'2 parsecs\')' in found["buffer.quota"]


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ("[device]", "[devise]", "devise", "did you mean `device`?"),
        ('driver = "serial"', 'driver = "seriel"', "source[0].driver", "did you mean `serial`?"),
        ('driver = "serial"\n', "", "source[0].driver", "is required"),
        ('id = "soil"\n', "", "source[0].id", "is required"),
        ('id = "soil"', 'id = "so il"', "source[0].id", "should be of letters, digits"),
        (
            'id = "hall"',
            'id = "soil"',
            "source[1].id",
            "used by source[0] (agent.toml:5) and source[1] (agent.toml:",
        ),
        ('sources = ["soil"]', 'sources = ["sol"]', "pipeline[0].sources[0]", "did you mean `soil`?"),
        ('sources = ["soil"]', "sources = []", "pipeline[0].sources", "should not be empty"),
        ('sources = ["soil"]', "tags = {}", "pipeline[0].tags", "should not be empty"),
        ("width = 0.1", 'width = 0.1\non_error = "ignore"', "pipeline[0].step[0].on_error", "'dead_letter'"),
        ('processor = "deadband"', 'processor = "deadbend"', "pipeline[0].step[0].processor", "did you mean"),
        (
            'tags = { bed = "north" }',
            "tags = { bed = 3 }",
            "source[0].tags.bed",
            "a text, in quotes (found 3)",
        ),
        ('id = "soil"', 'id = "soil"\ncodec = "jsn"', "source[0].codec", "did you mean `json`?"),
        ('keep_delivered = "3 days"', "keep_delivered = -1", "buffer.keep_delivered", "greater than 0"),
        ('quota = "2 GB"', 'quota = "7 MB"', "buffer.quota", "8 MiB or more (found '7 MB')"),
        ('id = "soil"', 'id = "soil"\noptions = 3', "source[0].options", "is not a key here"),
        ("[[upstream]]", "[upstream]", "upstream", "write [[upstream]]"),
        ("[buffer]", "[[buffer]]", "buffer", "should be a table"),
    ],
)
def test_each_problem_names_its_place_and_remedy(tmp_path, old, new, where, message):
    assert old in GOOD
    found = problems(tmp_path, GOOD.replace(old, new))
    assert message in found[where]


def test_the_buffer_takes_the_smallest_quota_and_nothing_below():
    BufferOptions(quota_bytes=QUOTA_BYTES_MIN)
    with pytest.raises(ValueError, match="quota_bytes"):
        BufferOptions(quota_bytes=QUOTA_BYTES_MIN - 1)


def test_no_source_is_a_problem(tmp_path):
    assert "at least one [[source]]" in problems(tmp_path, "[device]\nid = 'a'\n")["source"]


def test_two_upstreams_of_one_driver_need_names(tmp_path):
    again = '\n[[upstream]]\ndriver = "mqtt"\nurl = "mqtt://other"\n'
    assert "give each a `name`" in problems(tmp_path, GOOD + again)["upstream[1].name"]
    named = load(tmp_path, GOOD + again.replace("driver", 'name = "spare"\ndriver'))
    assert [upstream.name for upstream in named.upstream] == ["mqtt", "spare"]


def test_a_secret_is_never_shown(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, GOOD.replace('url = "mqtt://cloud', 'password = "abc"\nurl = "mqtt://cloud'))
    assert "a secret, not shown" in str(caught.value)
    assert "abc" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = ", "1: is not TOML: the value is none that TOML knows"),
        ("[device\n", "1: is not TOML: the heading is not closed: ']' is missing"),
        ("\n\x00", "2: is not TOML"),
        ("id = 1\nid = 2\n", "2: is not TOML: this key is set above already"),
        (
            "a = [1\n\n",
            "2: is not TOML: a list is not closed: ] or a comma is missing, up to the end of the file",
        ),
    ],
)
def test_what_is_not_toml_is_said_with_its_line(tmp_path, text, says):
    assert problems(tmp_path, text)["file"].startswith(f"agent.toml:{says}")


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 3000 + "]" * 3000, "a = " + "9" * 5000], ids=["nesting", "number"]
)
def test_what_exceeds_python_is_a_problem_too(tmp_path, text):
    assert "is not TOML" in problems(tmp_path, text)["file"]


def test_what_is_no_text_is_said_and_the_mark_of_windows_editors_is_none_of_it(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_bytes(b"\xff\xfe" + GOOD.encode("utf-16-le"))
    with pytest.raises(ConfigurationError, match="save the file as UTF-8"):
        load_config(path, CATALOGUE)
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_config(path, CATALOGUE).device.id == "greenhouse-3"


@pytest.mark.parametrize(
    ("section", "where"),
    [
        ('[buffer]\npath = ""', "buffer.path"),
        ('[buffer]\npath = "a\\u0000b"', "buffer.path"),
        ('[agent]\nsocket = ""', "agent.socket"),
        (f'[agent]\nsocket = "/run/{"x" * 120}"', "agent.socket"),
        (f'[buffer]\npath = "/var/{"x" * 100}"', "buffer.path"),
    ],
)
def test_a_path_that_cannot_be_one_is_a_problem(tmp_path, section, where):
    source = '[[source]]\nid = "a"\ndriver = "serial"\nport = "/dev/x"\n'
    assert list(problems(tmp_path, source + section)) == [where]


def test_the_socket_is_looked_for_beside_the_file_wherever_the_command_runs(tmp_path):
    config = load(tmp_path, GOOD + '\n[agent]\nsocket = "agent.sock"\n')
    assert config.agent.socket == tmp_path / "agent.sock"


def test_steps_are_written_below_their_pipeline(tmp_path):
    text = GOOD.replace("[[pipeline.step]]", "[pipeline.step]")
    assert "write [[pipeline.step]] above" in problems(tmp_path, text)["pipeline[0].step"]


def test_files_are_looked_for_in_the_folder_of_the_configuration(tmp_path, monkeypatch):
    text = GOOD.replace('url = "mqtt://cloud', 'word_file = "word"\nurl = "mqtt://cloud')
    with pytest.raises(ConfigurationError, match=f"there is no file {tmp_path}/word"):
        load(tmp_path, text, check_files=True)
    assert load(tmp_path, text).upstream[0].options.word_file == tmp_path / "word"
    (tmp_path / "word").write_text("secret")
    assert load(tmp_path, text, check_files=True).upstream[0].options.word_file == tmp_path / "word"
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "word").write_text("of the unit")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert load(tmp_path, text, check_files=True).upstream[0].options.word_file == credentials / "word"
    too_long = text.replace('"word"', f'"{"w" * 300}"')
    with pytest.raises(ConfigurationError, match="there is no file"):
        load(tmp_path, too_long, check_files=True)


def test_a_source_that_is_there_twice_is_offered_once(tmp_path):
    twice = GOOD.replace('id = "hall"', 'id = "soil"').replace('sources = ["soil"]', 'sources = ["roof"]')
    assert (
        "there is no such source; there are soil (found"
        in problems(tmp_path, twice)["pipeline[0].sources[0]"]
    )


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="give one with --config FILE"):
        load_config(tmp_path / "nowhere.toml", CATALOGUE)


def test_a_key_of_every_source_that_the_driver_wants_as_well_is_checked_by_both(tmp_path):
    def written(silent_after):
        path = tmp_path / "agent.toml"
        path.write_text(
            GOOD.replace('driver = "serial"', f'driver = "serial"\nsilent_after = "{silent_after}"')
        )
        return path

    (source, *_) = load_config(written("2 s"), CATALOGUE).source
    assert (source.silent_after, source.options.silent_after) == (2.0, 2.0)
    with pytest.raises(
        ConfigurationError, match=r"source\[0\].silent_after: should be greater than 1 \(found"
    ) as caught:
        load_config(written("1 s"), CATALOGUE)
    assert len(caught.value.problems) == 1
    with pytest.raises(ConfigurationError) as caught:
        load_config(written("0 s"), CATALOGUE)
    assert len(caught.value.problems) == 1
