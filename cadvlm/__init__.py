"""Engineering drawings paired with executable CAD code, for vision-language models.

The names that people type are here; each is imported when it is first used:

- `read`, `build`, `project`: a file becomes a sequence, a solid, a drawing
- `encode`, `decode`: a sequence becomes code, and code a sequence; nothing is executed
- `iou`, `evaluate`: compare two solids, or a file of predictions with a dataset
- `match`: compare a part with a drawing of it, in a file or in views; `reconstruct`: read the part from a drawing
- `reward`: score the answers of a model under training
- `Dataset`: a dataset folder; `show`: look at a solid in a notebook
"""
__version__ = "0.1.0"

import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING

_PLACES = dict(read="cad.sequence", build="cad.solid", project="cad.drawing", iou="cad.overlap", show="cad.view",
               encode="text.language", decode="text.language", Dataset="corpus.dataset", evaluate="measure.evaluate",
               match="reading.match", reconstruct="reading.understand", reward="learn.reward")
__all__ = [*_PLACES]

if _TYPE_CHECKING:
    from .cad.drawing import project
    from .cad.overlap import iou
    from .cad.sequence import read
    from .cad.solid import build
    from .cad.view import show
    from .corpus.dataset import Dataset
    from .learn.reward import reward
    from .measure.evaluate import evaluate
    from .reading.match import match
    from .reading.understand import reconstruct
    from .text.language import decode, encode


def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(f"module 'cadvlm' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"cadvlm.{_PLACES[name]}"), name)
    return value


def __dir__():
    return [*_PLACES, "__version__"]


def _only_a_module():
    "`python -m cadvlm.learn.finetune` would do nothing, or end in a traceback where an extra is missing."
    name = _sys.orig_argv[-len(_sys.argv)].removeprefix("-m")
    if name.startswith("cadvlm.") and name != "cadvlm.__main__":
        print(f"cadvlm: {name} is a module, not a program; cadvlm --help lists the commands", file=_sys.stderr)
        raise SystemExit(2)


if _sys.argv[:1] == ["-m"]:          # so it stands there while Python looks for the module that it shall run
    _only_a_module()
