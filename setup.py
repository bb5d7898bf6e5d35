"""The settings are in pyproject.toml. Only the README of the package index is made here: its links are absolute."""

import runpy

from setuptools import setup

absolute = runpy.run_path("tools/readme.py")["absolute"]
setup(long_description=absolute("README.md", "pyproject.toml"), long_description_content_type="text/markdown")
