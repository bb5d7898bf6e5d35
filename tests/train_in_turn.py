"""One of several processes that train together, by `torchrun`: the command lines in a JSON file, one after the other.

Starting the processes and importing the libraries takes longer than the training.
"""

import gc
import json
import sys
from pathlib import Path

import cadvlm.learn.finetune  # noqa: F401
from cadvlm.app.cli import main

if __name__ == "__main__":
    gc.freeze()  # what is imported stays; training collects garbage often
    sys.exit(max(main(words) for words in json.loads(Path(sys.argv[1]).read_text())))
