"""Commands are classes of settings: help, configuration files, Python and metadata say the same."""
import inspect
import json
import os
import subprocess
import sys
import time

import pytest
import yaml

from cadvlm.app.cli import COMMANDS, GROUPS, load_config, main
from cadvlm.app.run import function_of
from cadvlm.settings.base import choices, ordered

LIGHT = ("extract", "dedup", "render", "convert", "validate", "synthesize", "run", "export", "download", "upload")
NEED_TRAINING = ["train d", "predict r d", "finetune d --tiny", "answer r d"]
# a program in which the libraries of training, of clusters and of STEP are not installed
BARE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "tokenizers", "peft", "accelerate", "interegular",
                                      "distributed", "dask", "OCP"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from cadvlm.app.cli import main
"""
ONE = "sys.exit(main())"
# all commands that need no other process, one after the other: an interpreter for each would take most of the time
MANY = """
import contextlib, io, json, shlex
answers = []
for line in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        answers.append([main(shlex.split(line)), out.getvalue()])
json.dump(answers, sys.stdout)
"""


def bare(*words):
    "`(exit code, output, seconds)` of a command in a base installation."
    start = time.perf_counter()
    made = subprocess.run([sys.executable, "-c", BARE + ONE, *words], capture_output=True, text=True, env=os.environ)
    return made.returncode, made.stdout + made.stderr, time.perf_counter() - start


@pytest.fixture(scope="module")
def bare_answers():
    "`(exit code, output)` of command lines, each in the same base installation."
    lines = [f"{name} --help" for name in COMMANDS] + NEED_TRAINING
    made = subprocess.run([sys.executable, "-c", BARE + MANY], input=json.dumps(lines), capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return dict(zip(lines, json.loads(made.stdout)))


def flag(name):
    return f"--{name.replace('_', '-')}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_setting(name, capsys):
    assert main([name, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    cls = COMMANDS[name]
    for setting, field in ordered(cls).items():
        assert flag(setting) in text, setting
        assert field.description, setting
    assert all(a.help for a in cls.arguments.values())
    assert "empty-" not in text
    assert cls.group in GROUPS and cls.example.startswith(f"cadvlm {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_a_valid_configuration_file(name, tmp_path):
    cls, file = COMMANDS[name], tmp_path / "all.yaml"
    defaults = cls().model_dump(mode="json")
    for dash in (False, True):
        section = {k.replace("_", "-") if dash else k: v for k, v in defaults.items()}
        file.write_text(yaml.safe_dump({name: section}))
        assert load_config(file, name) == defaults


@pytest.mark.parametrize("name", LIGHT)
def test_function_has_the_signature_of_its_settings(name):
    cls, function = COMMANDS[name], function_of(COMMANDS[name])
    assert function.settings is cls
    assert list(inspect.signature(function).parameters) == [*cls.arguments, *ordered(cls)]
    assert all(field.description in " ".join(function.__doc__.split()) for field in cls.model_fields.values())


def test_closed_choices_reach_the_command_line():
    assert choices(COMMANDS["convert"].model_fields["language"]) == ("cadquery", "compact")
    assert main(["convert", "nowhere", "--language", "cadqery"]) == 2


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["redner", "d"], ["--verbose"]])
def test_base_installation_answers_without_any_extra(words):
    code, text, seconds = bare(*words)
    assert "Traceback" not in text and "torch" not in text
    assert seconds < 5          # on a busy machine; alone it is well below one second


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_needs_no_extra(bare_answers, name):
    code, text = bare_answers[f"{name} --help"]
    assert code == 0 and "Usage" in text


@pytest.mark.parametrize("line", NEED_TRAINING)
def test_missing_extra_is_one_line(bare_answers, line):
    code, text = bare_answers[line]
    assert code == 2
    assert len(text.strip().splitlines()) == 1
    assert "missing_extra" in text and "cadvlm[train]" in text
