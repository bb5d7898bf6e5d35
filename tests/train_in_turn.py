"""Two processes that train together: the command lines in a JSON file, one after the other.

They are started as `torchrun --nproc-per-node=2` starts them, by its agent, which sets what it sets; but they are forks
of this process: starting Python and importing the libraries, for each anew, takes longer than the training.
"""

import gc
import json
import sys
from pathlib import Path

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import cadvlm.learn.finetune  # noqa: F401
from cadvlm.app.cli import main


def train(lines):
    "What each of the processes does; the worst exit code."
    return max(map(main, lines))


if __name__ == "__main__":
    gc.freeze()  # what is imported stays; training collects garbage often
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2, run_id="two", rdzv_backend="c10d",
                          rdzv_endpoint="localhost:0", start_method="fork", max_restarts=0, monitor_interval=0.1)
    codes = elastic_launch(config, train)(json.loads(Path(sys.argv[1]).read_text()))
    sys.exit(max(codes.values()))
