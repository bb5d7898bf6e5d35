"""Small promises about the project as a whole."""
import configparser, re, subprocess, sys, time, tomllib
from pathlib import Path

import pytest
import yaml

import cadvlm

CADVLM = Path(sys.executable).with_name("cadvlm")
LOCAL_PATH = r"(?<![\w/+.:~-])(/(home|Users|root)/\w|{root}/)"


def test_version_and_python_agree(root):
    settings = configparser.ConfigParser()
    settings.read(root / "settings.ini")
    settings = settings["DEFAULT"]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert cadvlm.__version__ == settings["version"]
    assert project["requires-python"] == ">=" + settings["min_python"]
    assert project["description"] == settings["description"]


def test_command_line_imports_no_training_library():
    code = "import cadvlm.app.cli, sys; sys.exit(', '.join({'torch', 'transformers', 'dask', 'OCP'} & set(sys.modules)) or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, f"`import cadvlm.app.cli` also imports {result.stderr}"


def test_help_is_quick():
    def seconds():
        start = time.perf_counter()
        subprocess.run([CADVLM, "--help"], capture_output=True, check=True)
        return time.perf_counter() - start
    assert min(seconds() for _ in range(3)) < 2  # one second is the aim; tests share the machine


@pytest.mark.parametrize("name", ["1k", "10k", "100k"])
def test_config_keys_are_flags(root, name):
    config = yaml.safe_load((root / f"config/deepcad_{name}_test.yaml").read_text())
    for command, flags in config.items():
        text = subprocess.run([CADVLM, command, "--help"], capture_output=True, text=True, check=True).stdout
        missing = [key for key in flags if "--" + key.replace("_", "-") not in text]
        assert not missing, f"cadvlm {command} has no such flag: {missing}"


def test_no_path_of_this_machine_is_tracked(root):
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    pattern, found = re.compile(LOCAL_PATH.format(root=re.escape(str(root)))), []
    for path in map(root.joinpath, filter(None, listing.stdout.split("\0"))):
        if path.is_file() and path.suffix not in {".png", ".ico", ".parquet"}:
            found += [f"{path.relative_to(root)}: {match[0]}" for match in pattern.finditer(path.read_text(encoding="utf-8", errors="ignore"))]
    assert not found
