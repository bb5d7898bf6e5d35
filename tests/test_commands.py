"""Commands are classes of settings: help, configuration files, Python and metadata say the same."""
import inspect
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
sys.exit(main())
"""


def bare(*words):
    "`(exit code, output, seconds)` of a command in a base installation."
    start = time.perf_counter()
    made = subprocess.run([sys.executable, "-c", BARE, *words], capture_output=True, text=True, env=os.environ)
    return made.returncode, made.stdout + made.stderr, time.perf_counter() - start


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
def test_help_of_every_command_needs_no_extra(name):
    code, text, _ = bare(name, "--help")
    assert code == 0 and "Usage" in text


@pytest.mark.parametrize("line", ["train d", "predict r d", "finetune d --tiny", "answer r d"])
def test_missing_extra_is_one_line(line):
    code, text, _ = bare(*line.split())
    assert code == 2
    assert len(text.strip().splitlines()) == 1
    assert "missing_extra" in text and "cadvlm[train]" in text
