"""A configuration in several files: `conf.d` beside the one that is named."""

import pytest

from agent.cli import main
from agent.composition import catalogue
from agent.config import ConfigurationError, load_config, socket_named_in

MAIN = """
[device]
id = "pi"

[buffer]
path = "buffer"

[[source]]
id = "first"
driver = "simulated"
"""
SOURCE = '[[source]]\nid = "{}"\ndriver = "simulated"\n'


def written(folder, **files):
    (folder / "outstation.toml").write_text(files.pop("main", MAIN))
    (folder / "conf.d").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "conf.d" / f"{name}.toml").write_text(text)
    return folder / "outstation.toml"


def problems(path):
    with pytest.raises(ConfigurationError) as caught:
        load_config(path, catalogue())
    return [str(problem) for problem in caught.value.problems]


def test_each_file_adds_in_the_order_of_their_names(tmp_path):
    path = written(
        tmp_path,
        b=SOURCE.format("third") + '[[pipeline]]\nsources = ["second"]\n',
        a=SOURCE.format("second") + '[buffer]\nquota = "1 GB"\nfull.normal = "block"\n',
        c='[buffer.full]\nalarm = "drop_newest"\n[[upstream]]\ndriver = "mqtt"\nurl = "mqtts://x"\n',
    )
    (tmp_path / "conf.d" / "notes.txt").write_text("not read")
    (tmp_path / "conf.d" / ".#a.toml").write_text("nor what an editor hides")
    config = load_config(path, catalogue())
    assert [source.id for source in config.source] == ["first", "second", "third"]
    assert (config.buffer.quota, config.buffer.path) == (10**9, tmp_path / "buffer")
    assert (config.buffer.full.normal, config.buffer.full.alarm) == ("block", "drop_newest")
    assert [file.name for file in config.files] == ["outstation.toml", "a.toml", "b.toml", "c.toml"]
    assert config.upstream[0].name == "mqtt"


def test_a_problem_names_its_own_file_line_and_key(tmp_path):
    path = written(
        tmp_path, a=SOURCE.format("second"), b="\n" + SOURCE.format("third") + "rate = -1\n[bufer]\nx = 1\n"
    )
    assert problems(path) == [
        "conf.d/b.toml:6: bufer: is not a section here; did you mean `buffer`?",
        "conf.d/b.toml:5: source[0].rate: should be greater than 0 (found -1)",
    ]


def test_what_two_files_set_is_an_error_that_names_both(tmp_path):
    path = written(
        tmp_path,
        a='[buffer]\nsync = "each"\npath = "other"\n',
        b=SOURCE.format("first"),
        c='[buffer]\nsync = "each"\n',
    )
    twice = "is used by source[0] (outstation.toml:8) and source[0] (conf.d/b.toml:1); give each an `id` of its own"
    said = "is set in {} already: no file overrules another, so keep one of them"
    assert problems(path) == [
        f"conf.d/a.toml:3: buffer.path: {said.format('outstation.toml:6')}",
        f"conf.d/c.toml:2: buffer.sync: {said.format('conf.d/a.toml:2')}",
        f"conf.d/b.toml:2: source[0].id: {twice} (found 'first')",
    ]


def test_every_file_that_is_no_toml_is_told(tmp_path):
    path = written(tmp_path, a="x =", b="[y\n", c='[[upstream]]\ndriver = "http"\n')
    (tmp_path / "conf.d" / "d.toml").mkdir()
    said = problems(path)
    assert [text.partition(": ")[0] for text in said] == [
        "conf.d/a.toml:1",
        "conf.d/b.toml:1",
        "conf.d/d.toml",
    ]


def test_a_section_that_is_a_list_in_one_file_and_a_table_in_the_other(tmp_path):
    path = written(tmp_path, a='[source]\nid = "x"\n', b="device = 3\n", c="[[buffer]]\nquota = 1\n")
    assert problems(path) == [
        "conf.d/a.toml:1: source: should be a list of tables; write [[source]] above each",
        "conf.d/b.toml:1: device: is set in outstation.toml:2 already: no file overrules another, so keep one of them",
        "conf.d/c.toml:1: buffer: is set in outstation.toml:5 already: no file overrules another, so keep one of them",
    ]


def test_check_says_which_files_were_read(tmp_path, capsys):
    path = written(tmp_path, b=SOURCE.format("third"), a=SOURCE.format("second"))
    assert main(["check", "--config", str(path)]) == 0
    assert f"{path} with conf.d/a.toml, conf.d/b.toml is right: sources first" in capsys.readouterr().out


def test_the_socket_of_a_spoilt_configuration_is_found_in_every_file(tmp_path):
    path = written(tmp_path, main="[device]\nid = \n", b='[buffer]\npath = "kept"\n')
    assert socket_named_in(path) == tmp_path / "kept" / "agent.sock"
    (tmp_path / "conf.d" / "c.toml").write_text('[agent]\nsocket = "s"\n=')
    assert socket_named_in(path) == tmp_path / "s"


def test_relative_names_start_from_the_folder_of_the_first_file(tmp_path):
    (tmp_path / "word").write_text("sesame")
    upstream = '[[upstream]]\ndriver = "http"\nurl = "https://x"\ntoken = { file = "word" }\n'
    config = load_config(written(tmp_path, a=upstream), catalogue(), check_files=True)
    assert config.upstream[0].options.token.read() == "sesame"
    assert config.secret_files == (tmp_path / "word",)


def test_a_missing_secret_hides_nothing_else(tmp_path):
    upstream = '[[upstream]]\ndriver = "mqtt"\nurl = "mqtts://x"\npassword = { file = "word" }\n'
    with pytest.raises(ConfigurationError) as caught:
        load_config(written(tmp_path, a=upstream), catalogue(), check_files=True)
    assert [(problem.where, problem.message) for problem in caught.value.problems] == [
        ("upstream[0].password", f"there is no file {tmp_path / 'word'}"),
        ("upstream[0]", "`password` needs a `username`"),
    ]
    assert caught.value.secret_files == (tmp_path / "word",)
