"""Commands are classes of settings: help, configuration files, Python and metadata say the same."""
import inspect
import json
import os
import pkgutil
import subprocess
import sys

import pytest
import yaml

import cadvlm.learn
from cadvlm.app.cli import COMMANDS, GROUPS, app, load_config, main
from cadvlm.app.run import function_of
from cadvlm.settings.base import choices, ordered

LIGHT = ("extract", "dedup", "render", "convert", "validate", "synthesize", "run", "export", "download", "upload")
NEED_TRAINING = ["train d", "predict r d", "finetune d --tiny", "answer r d", "compare d e"]
# a program in which the libraries of training, of clusters and of STEP are not installed
BARE = """
import sys
for name in "torch torchvision transformers tokenizers peft accelerate interegular distributed dask OCP".split():
    sys.modules[name] = None
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
IMPORTS = """
import json, sys
from importlib import import_module
said = {}
for name in json.load(sys.stdin):
    try: said[name] = import_module(name) and None
    except Exception as error: said[name] = str(error)
print(json.dumps(said))
"""


def bare(*words):
    "`(exit code, output, seconds of processor time)` of a command in a base installation."
    before = os.times()
    made = subprocess.run([sys.executable, "-c", BARE + ONE, *words], capture_output=True, text=True)
    after = os.times()
    return made.returncode, made.stdout + made.stderr, sum(after[2:4]) - sum(before[2:4])


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
    app.parse_args(cls.example.split()[1:], exit_on_error=False, print_error=False)


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
    assert seconds < 1.5        # one second is the aim; a busy machine takes more


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_needs_no_extra(bare_answers, name):
    code, text = bare_answers[f"{name} --help"]
    assert code == 0 and "Usage" in text


@pytest.mark.parametrize("line", NEED_TRAINING)
def test_missing_extra_is_one_line(bare_answers, line):
    code, text = bare_answers[line]
    assert code == 2
    assert len(text.strip().splitlines()) == 1
    assert text.startswith(f"cadvlm: {line.split()[0]}: it needs torch")
    assert "missing_extra" in text and "cadvlm[train]" in text


def test_module_without_its_extra_says_what_to_install():
    names = sorted(f"cadvlm.learn.{m.name}" for m in pkgutil.iter_modules(cadvlm.learn.__path__))
    command = [sys.executable, "-c", BARE + IMPORTS]
    made = subprocess.run(command, input=json.dumps(names), capture_output=True, text=True)
    said = json.loads(made.stdout)
    assert said["cadvlm.learn.reward"] is None and "missing_extra" in said["cadvlm.learn.commands"]
    assert all(text is None or "pip install 'cadvlm[train]'" in text for text in said.values()), said


@pytest.mark.parametrize("words", [["cadvlm.learn.finetune", "--help"], ["cadvlm.app.cli"], ["cadvlm.cad.solid", "-m"]])
def test_module_that_is_run_names_the_program(words):
    made = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    assert (made.returncode, made.stdout) == (2, "")
    assert made.stderr == f"cadvlm: {words[0]} is a module, not a program; cadvlm --help lists the commands\n"


def test_package_is_a_program():
    made = subprocess.run([sys.executable, "-m", "cadvlm", "--version"], capture_output=True, text=True)
    assert (made.returncode, made.stderr) == (0, "") and made.stdout[:1].isdigit()
