"""Rewards that cannot be hurt: hostile, endless and mutated answers cost bounded time and memory, and execute
nothing."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from builders import cases, environment, some
from cadvlm.cad.normal import normal_form
from cadvlm.cad.sequence import read
from cadvlm.errors import CadError
from cadvlm.learn.reward import Reward, reward, score_answer
from cadvlm.synth.histories import part
from cadvlm.text import compact
from cadvlm.text.cadquery_writer import write
from cadvlm.text.language import MAX_ANSWER, encode
from hostile import programs
from test_cadquery import HOSTILE, mutated

SECONDS, MEGABYTES = 1.0, 300
BUSY = 1.8  # processors that are shared need that much longer for the same work
PLATE = "+ z -20 20 R -100 -60 100 60"
CHATTER = "Let me look at the views.\n```\n{}\n```\nThe hole goes through."


def measured(answers):
    "What the answers `{name: (language, text)}` took; those that took long are measured once more."
    script = Path(__file__).with_name("measure_rewards.py")

    def run(chosen):
        done = subprocess.run(
            [sys.executable, script], input=json.dumps(chosen), capture_output=True, text=True, env=environment(),
            timeout=3_000,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    found = run(answers)
    late = {name: answers[name] for name, seconds in found["seconds"].items() if seconds > SECONDS * BUSY}
    again = run(late)["seconds"] if late else {}
    found["late"] = {name: seconds for name, seconds in again.items() if seconds > SECONDS * BUSY}
    return found


def check(found):
    print(f"\n{found['kinds']}, {found['megabytes']:.0f} MB, {max(found['seconds'].values()):.2f} s")
    assert not found["late"] and found["megabytes"] < MEGABYTES, (found["late"], found["megabytes"])
    assert not found["events"] and not found["kinds"].get("internal_error"), (found["events"], found["kinds"])


@pytest.mark.slow
def test_hostile_answers_cost_little():
    "Programs that are short and ask for much, in chatter; attempts to run something; and answers without an end."
    answers = {name: (language, CHATTER.format(code)) for name, (language, code) in some(programs(), 8).items()
               if language != "vectors"}  # fmt: skip
    answers |= {name: ("cadquery", text) for name, (text, _) in HOSTILE.items() if isinstance(text, str)}
    endless = ["r = r.union(r)\n", "((((", "```\n", "+ z 0 1 O 0 0 1\n", "a b c ", "'''", '"""\n# ', "x = 1\n```py\n"]
    answers |= {f"endless {k} {language}": (language, (text * MAX_ANSWER)[:MAX_ANSWER])
                for k, text in enumerate(endless) for language in ("cadquery", "compact")}  # fmt: skip
    found = measured(answers)
    check(found)
    assert found["kinds"]["scored"] > 6 and len(found["kinds"]) > 10


@pytest.mark.slow
def test_mutated_answers_cost_little():
    rng, forms = random.Random(7), [normal_form(part(0, i)) for i in range(12)]
    base = [("cadquery", write(f)) for f in forms] + [("compact", compact.write(f)) for f in forms]
    answers = {}
    for k in range(cases(400)):
        language, text = rng.choice(base)
        text = mutated(text, rng)
        answers[str(k)] = (language, CHATTER.format(text) if rng.random() < 0.5 else text)
    found = measured(answers)
    check(found)
    assert found["kinds"]["scored"] > cases(400) / 20


@pytest.mark.slow
def test_true_code_of_real_parts_has_a_reward_of_one(shared):
    "In time: the truth and the answer are both built."
    codes = []
    for path in sorted((shared / "deepcad" / "cad_json").rglob("*.json"))[:: max(1, 16 // cases(1))]:
        try:
            codes.append(encode(read(path)))
        except CadError:
            pass
    found = Reward(workers=1)(codes, code=codes)
    assert len(codes) > 40 and found.count(0.0) == 0 and all(f is None or f > 0.999 for f in found)


# --- a worker that dies


def test_a_worker_that_dies_is_an_invalid_answer(monkeypatch):
    "The others of the batch are scored."
    from cadvlm.learn import reward as module

    monkeypatch.setattr(module, "score_answer", dying)
    found = Reward("valid", "compact", workers=1)([PLATE, "die", PLATE])
    assert found == [1.0, 0.0, 1.0]


def dying(id, names, answer, *arguments):
    if answer == "die":
        import os

        os.abort()
    return score_answer(id, names, answer, *arguments)


def test_columns_of_trainers():
    messages = [[dict(role="assistant", content=[dict(type="text", text=f"```\n{PLATE}\n```")])], "no"]
    others = dict(prompts=["", ""], completion_ids=[[1], [2]], trainer_state=None, log_extra=None)
    found = reward(messages, code=[PLATE, PLATE], language=["compact", "compact"], **others)
    assert found == [1.0, 0.0]
    assert reward([], code=[]) == []
    assert Reward("iou", "compact")([PLATE, PLATE], code=[PLATE, "nonsense"]) == [1.0, None]
    assert Reward({"iou": 2.0, "valid": -1.0}, "compact")([PLATE], code=[PLATE]) == [1.0]


def test_an_image_is_needed_and_found_in_every_form(tmp_path):
    from PIL import Image

    from cadvlm.cad.drawing import project
    from cadvlm.learn.choose import read_solid

    drawing = project(read_solid(PLATE), "front")
    pixels = drawing.rasterize(256)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "front.png")
    data = (tmp_path / "front.png").read_bytes()
    forms = [drawing, pixels, pixels[:, :, 0], image, [image], data, dict(bytes=data, path=None), "front.png",
             dict(bytes=None, path="front.png"), tmp_path / "front.png", drawing.rasterize(512), None]  # fmt: skip
    found = Reward("drawing", "compact", "front", tmp_path)([PLATE] * len(forms), images=forms)
    assert found[-1] is None and found[:-2] == [1.0] * (len(forms) - 2) and found[-2] > 0.9
    assert Reward("drawing", "compact", "front")([PLATE], image=[image]) == [1.0]
