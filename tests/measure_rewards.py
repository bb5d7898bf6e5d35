"""Score answers as a worker process does: `{name: [language, answer]}` as JSON in; out a JSON object with the seconds
of processor time of each, the kinds of results, the megabytes that all of them took at most, and the audit events of
Python, such as an execution or an opened file, that are not those of a parser."""

import json
import resource
import sys
import time
from collections import Counter

from cadvlm.cad.drawing import warm_up
from cadvlm.jobs.limits import attempt
from cadvlm.learn.choose import sheet_of
from cadvlm.learn.reward import SCORES, Reward, grey_pixels, score_answer

TRUTH = "+ z -30 -10 R -100 -60 100 60 O -60 0 25\n+ z -10 30 R 20 -60 100 60\n- y -60 0 O 60 10 12"
HARMLESS = "compile", "builtins.id"  # to compile is not to execute: the parser does it
_heard = None


def _listen(event, arguments):
    if _heard is not None and event not in HARMLESS and (event, *arguments[:1]) != ("open", ""):
        _heard.append(event)


def main():
    global _heard
    warm_up()
    image, truths = grey_pixels(sheet_of(TRUTH)), dict(compact=TRUTH)
    from cadvlm.text.language import decode, encode

    truths["cadquery"] = encode(decode(TRUTH, "compact"))
    timeout, seconds, kinds = Reward().timeout, {}, Counter()
    for language, truth in truths.items():  # what is loaded late
        score_answer("", SCORES, f"```\n{truth}\n```", language, truth, "sheet", image, timeout)
    sys.addaudithook(_listen)
    before, _heard = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for name, (language, answer) in json.load(sys.stdin).items():
        start = time.process_time()
        row = attempt(score_answer, name, SCORES, answer, language, truths[language], "sheet", image, timeout)
        seconds[name] = time.process_time() - start
        kinds[row.get("reason", "scored")] += 1
    events, _heard = Counter(_heard), None
    most = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps(dict(seconds=seconds, kinds=kinds, megabytes=most, events=events)))


if __name__ == "__main__":
    main()
