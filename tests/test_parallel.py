"""What may go wrong while many models are made, and that none of it shows in the result: processes that are killed,
hang or crash, a full disk, Ctrl-C, a cluster that loses machines."""

import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from builders import (
    COMMAND,
    cases,
    contents,
    environment,
    error_line,
    module_of,
    numbers,
    reason,
    reason_code,
    rejection,
    start,
    wait_until,
)
from cadvlm.app.cli import main
from cadvlm.files import read_json
from cadvlm.jobs.cluster import available_workers, cluster
from cadvlm.jobs.journal import Journal, Lock
from cadvlm.jobs.run import late_note, met_limits, run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")
COUNT = 48


@pytest.fixture(scope="module", autouse=True)
def dask(tmp_path_factory):
    """A scheduler and two workers on loopback, one with a nanny and one without; they start while other tests
    run. Gives `(folder, workers)`."""
    folder, program = tmp_path_factory.mktemp("dask"), Path(sys.executable).with_name("dask")
    if not program.exists():
        yield None
        return
    env = environment(Path(__file__).parent, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    quiet = dict(cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def part_of_cluster(*words):
        return start(program, *words, "--scheduler-file", folder / "scheduler.json", **quiet)

    options = ("--nthreads", "1", "--no-dashboard", "--local-directory", str(folder))
    scheduler = part_of_cluster("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    workers = [part_of_cluster("worker", *options), part_of_cluster("worker", *options, "--no-nanny")]
    yield folder, workers
    for process in (*workers, scheduler):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def scheduler(dask):
    "Address of the scheduler, when at least one worker is there."
    if not dask:
        pytest.skip("needs Dask: pip install 'cadvlm[cluster]'")
    path = dask[0] / "scheduler.json"
    wait_until(path.exists)
    address = read_json(path)["address"]
    with cluster(address) as client:
        client.wait_for_workers(1, 60)
    return address


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "synthetic"
    assert main(["synthesize", str(folder), "--count", str(COUNT), "--workers", "2"]) == 0
    return folder


def words(corpus, folder, *flags):
    "The whole chain of stages, as a user types it."
    sizes = ("--train-size", COUNT - 4, "--val-size", 2, "--test-size", 2, "--size", 128)  # all parts
    return [str(w) for w in ("run", corpus, folder, *sizes, *flags)]


def made_by(corpus, folder, *flags):
    assert main(words(corpus, folder, *flags)) == 0
    found = contents(folder)
    assert sum(name.endswith("_top.png") for name in found) == COUNT
    return found


def command(corpus, folder, *flags, out=subprocess.DEVNULL, **options):
    "The same as a program of its own, that can be killed."
    return start(*COMMAND, *words(corpus, folder, *flags), stdout=out, stderr=out, text=True, **options)


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    "What one worker makes of the corpus, undisturbed."
    return made_by(corpus, tmp_path_factory.mktemp("made") / "dataset", "--workers", "1")


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid):
    "Processes below a process, by /proc."
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents.setdefault(int(parent), []).append(int(path.parent.name))
    found, queue = [], [pid]
    while queue:
        queue += (children := parents.get(queue.pop(), []))
        found += children
    return found


def name(id):
    "A part that crashes, hangs, raises or is made."
    match id:
        case "0005":
            os._exit(3)
        case "0009":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "0013":
            -1 in itertools.count()  # compiled code that neither ends nor listens
        case "0021":
            while True:
                pass
        case "0022":
            raise ValueError("a mistake of ours")
    return "part " + id


def once(folder, id):
    "Killed at the first attempt at one part, as by somebody who frees memory."
    if id == "0007" and not (Path(folder) / "killed").exists():
        (Path(folder) / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return int(id)


def doomed(id):
    "A part that ends the Dask worker itself."
    if id == "0003":
        import multiprocessing

        os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
        time.sleep(60)
    return int(id)


def check_difficult(rows):
    expected = {  # the reason code, and what the message says of the cause
        "0005": ("crashed", "3"),
        "0009": ("crashed", "SIGSEGV"),
        "0013": ("timeout", "0.4 s"),  # four times the limit, when it is alone
        "0021": ("timeout", "0.4 s"),
        "0022": ("internal_error", "ValueError: a mistake of ours"),
    }
    assert {r["id"]: r["reason"] for r in rows.failures} == {id: code for id, (code, _) in expected.items()}
    assert all(expected[r["id"]][1] in r["message"] for r in rows.failures)
    assert (
        dict(rows.values) == {i: "part " + i for i in IDS if i not in {r["id"] for r in rows.failures}}
        and [r["id"] for r in rows] == IDS
    )


IDS = [f"{i:04}" for i in range(30)]


def test_part_that_crashes_or_hangs_is_one_failure(tmp_path, capfd):
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        check_difficult(run(name, IDS, journal, workers=2, timeout=0.1))
    assert "Traceback" not in capfd.readouterr().err


def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def steady(folder, id):
    "A tenth of a second of work; the number of the process is returned."
    (Path(folder) / f"{os.getpid()}.pid").touch()
    spin(0.1)
    return int(id)


def slow_beside_others(folder, id):
    "One part that takes ten times as long the first time, as on a machine whose caches are full; one that always does."
    if id == "0011" or id == "0004" and not (Path(folder) / "seen").exists():
        (Path(folder) / "seen").touch()
        spin(3)
    return int(id)


def asleep(id):
    if id == "0002":
        time.sleep(60)
    return int(id)


@pytest.mark.parametrize("workers", [1, 2])
def test_slow_part_is_retried_alone(tmp_path, workers, monkeypatch):
    order = []
    append = Journal.append
    monkeypatch.setattr(Journal, "append", lambda self, rows: order.extend(r["id"] for r in rows) or append(self, rows))
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        rows = run(partial(slow_beside_others, tmp_path), IDS[:12], journal, workers=workers, timeout=0.3)
        assert [(r["id"], r["reason"], numbers(r["message"])) for r in rows.failures] == [("0011", "timeout", ["1.2"])]
        assert (
            dict(rows.values) == {i: int(i) for i in IDS[:11]}
            and sorted(order) == IDS[:12]
            and set(order[-2:]) == {"0004", "0011"}
        )
        assert rows.late == 2 and met_limits(rows.failures) == dict(timeout=["0011"])
        assert list(map(numbers, late_note(rows, 0.3))) == [["2", "0.3", "1.2", "1"]]


STEADY = f"""
import sys
from functools import partial
from pathlib import Path
from {Journal.__module__} import Journal
from {run.__module__} import run
from test_parallel import IDS, steady

if __name__ == '__main__':
    with Journal(Path(sys.argv[1]) / 'run.jsonl', {{}}) as journal:
        rows = run(partial(steady, sys.argv[1]), IDS[:12], journal, workers=2, timeout=0.4)
        print(rows.failures, rows.late)
"""


def test_suspended_worker_loses_no_part(tmp_path):
    "Processes that are stopped for ten times the limit, again and again, as on a machine that has no time for them."
    env = environment(Path(__file__).parent)
    holder = start(sys.executable, "-c", STEADY, tmp_path, stdout=subprocess.PIPE, text=True, env=env)
    wait_until(lambda: list(tmp_path.glob("*.pid")) or holder.poll() is not None)
    stopped = 0
    while holder.poll() is None and stopped < 2:
        for path in tmp_path.glob("*.pid"):
            with suppress(ProcessLookupError):
                os.kill(int(path.stem), signal.SIGSTOP)
        time.sleep(4)
        stopped += 1
        for path in tmp_path.glob("*.pid"):
            with suppress(ProcessLookupError):
                os.kill(int(path.stem), signal.SIGCONT)
        time.sleep(0.05)
    assert holder.communicate(timeout=60)[0] == "[] 0\n" and stopped == 2


def test_images_do_not_depend_on_machine_load(corpus, made, tmp_path):
    "Its workers run for a fraction of each second; by the clock on the wall no part could keep this limit."
    folder = tmp_path / "dataset"
    assert main([str(w) for w in ("extract", corpus, folder, *words(corpus, folder)[3:9], "--workers", 1)]) == 0
    flags = ("--size", "128", "--workers", "2", "--timeout", "0.6")
    process = start(*COMMAND, "render", folder, *flags, stdout=subprocess.DEVNULL)
    wait_until(lambda: (folder / "logs/rendering.jsonl").exists() and len(descendants(process.pid)) >= 3)
    while process.poll() is None:
        below = descendants(process.pid)
        for number, seconds in ((signal.SIGSTOP, 0.7), (signal.SIGCONT, 0.15)):
            for pid in below:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(seconds)
    assert process.returncode == 0
    files = contents(folder)
    images = lambda all: {k: v for k, v in all.items() if k.startswith("images")}
    assert images(files) == images(made) != {}
    about, undisturbed = (json.loads(all["rendering_metadata.json"]) for all in (files, made))
    assert (about.pop("timeout"), undisturbed.pop("timeout")) == (0.6, 5)
    assert about == undisturbed and not about["met_limits"]


def test_sleeping_part_meets_a_wall_clock_limit(tmp_path):
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        rows = run(asleep, IDS[:4], journal, workers=2, timeout=0.02)
        assert [(r["id"], r["reason"]) for r in rows.failures] == [("0002", "timeout")] and len(list(rows.values)) == 3


@pytest.mark.cluster
def test_part_that_crashes_or_hangs_on_a_cluster(scheduler, tmp_path):
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        check_difficult(run(name, IDS, journal, timeout=0.1, scheduler=scheduler))


def test_worker_killed_once_loses_no_part(tmp_path):
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        assert dict(run(partial(once, tmp_path), IDS, journal, workers=2).values) == {i: int(i) for i in IDS}
    assert (tmp_path / "killed").exists()


@pytest.mark.parametrize("workers", [4])  # two: `test_stages.py`
def test_dataset_does_not_depend_on_number_of_workers(corpus, made, tmp_path, workers):
    assert made_by(corpus, tmp_path / "dataset", "--workers", str(workers)) == made


def test_dataset_is_the_same_after_kills(corpus, made, tmp_path):
    """The driver, or a worker and then the driver, four times, at moments after the first file that a fixed seed
    chooses. Any process below the driver may be the worker."""
    rng, folder, seen = random.Random(5), tmp_path / "dataset", []
    files = lambda: sum(1 for _ in folder.rglob("*"))
    for i in range(cases(4)):
        before, process = files(), command(corpus, folder, "--workers", "2")
        wait_until(lambda: files() != before or process.poll() is not None)
        for _ in range(i % 2):
            time.sleep(rng.uniform(0, 0.5))
            with suppress(IndexError, ProcessLookupError):
                os.kill(rng.choice(descendants(process.pid)), signal.SIGKILL)
        time.sleep(rng.uniform(0, 1))
        process.kill()
        seen.append((process.wait(), len(contents(folder))))
    assert any(0 < n < len(made) for _, n in seen), seen
    assert made_by(corpus, folder, "--workers", "2") == made


@pytest.mark.cluster
def test_dataset_is_the_same_when_a_cluster_loses_a_worker(corpus, made, dask, scheduler, tmp_path):
    process = command(
        corpus, "dataset", "--scheduler", scheduler, cwd=tmp_path, out=subprocess.PIPE
    )  # a relative path, from a folder that is not the workers'
    wait_until(lambda: (tmp_path / "dataset/logs/rendering.jsonl").exists() or process.poll() is not None)
    victim = dask[1][1]
    victim.kill()
    out, error = process.communicate(timeout=100)
    assert process.returncode == 0, out + error
    assert contents(tmp_path / "dataset") == made and victim.wait() == -signal.SIGKILL


@pytest.mark.cluster
def test_part_that_kills_dask_workers_is_found(scheduler, tmp_path):
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        rows = run(doomed, IDS[:8], journal, scheduler=scheduler)
        assert [(r["id"], r["reason"]) for r in rows.failures] == [("0003", "crashed")] and len(list(rows.values)) == 7


def test_run_resumes_after_a_full_disk(corpus, made, tmp_path):
    "In every process, from some image on."
    (tmp_path / "sitecustomize.py").write_text(f"""
import os
replace = os.replace
def full(source, target, **options):
    if str(target).endswith('31_top.png'): raise OSError({errno.ENOSPC}, 'No space left on device', str(target))
    return replace(source, target, **options)
os.replace = full
""")
    env = environment(tmp_path)
    process = command(corpus, tmp_path / "dataset", "--workers", "2", env=env, out=subprocess.PIPE)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 2 and "Traceback" not in error
    last = error.strip().splitlines()[-1]
    assert last.startswith("cadvlm: ") and os.strerror(errno.ENOSPC) in last
    assert (
        0 < len(list((tmp_path / "dataset/images").rglob("*.png"))) < 3 * COUNT
        and not (tmp_path / "dataset/logs/lock").exists()
    )
    assert made_by(corpus, tmp_path / "dataset", "--workers", "2") == made


def test_journal_on_a_full_disk_keeps_whole_rows(tmp_path):
    class Full:
        "A file that takes forty more bytes."

        def __init__(self, file):
            self.file, self.left = file, 40

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            self.file.write(data[: self.left])
            self.file.flush()
            if len(data) > self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.left -= len(data)

    journal = Journal(tmp_path / "run.jsonl", {})
    journal.file = Full(journal.file)
    with pytest.raises(OSError) as error:
        run(int, IDS, journal, workers=1)
    assert error.value.errno == errno.ENOSPC
    journal.close()
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        assert len(journal) == 1 and dict(run(int, IDS, journal, workers=1).values) == {i: int(i) for i in IDS}


def test_ctrl_c_leaves_no_process_lock_or_part_file(corpus, tmp_path):
    folder = tmp_path / "dataset"
    process = command(corpus, folder, "--workers", "2", start_new_session=True, out=subprocess.PIPE)
    wait_until(lambda: (folder / "logs/rendering.jsonl").exists())
    below = descendants(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (
        process.returncode == 130 and error.strip().splitlines()[-1].startswith("cadvlm: ") and "Traceback" not in error
    )
    wait_until(lambda: not any(map(is_running, below)), 10)
    assert not (folder / "logs/lock").exists() and not list(folder.rglob("*.part"))


HOLD = "journal = Journal(sys.argv[1], {}); print('here', flush=True); input()"
TAKE = "Lock.take(sys.argv[1], 'test'); print('mine', flush=True); input()"


def test_stage_rejects_a_busy_dataset(corpus, tmp_path, capsys):
    folder = tmp_path / "dataset"
    code = f"import sys; from {Journal.__module__} import Journal; " + HOLD
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    holder = start(sys.executable, "-c", code, folder / "logs/rendering.jsonl", **pipes)
    assert holder.stdout.readline() == "here\n"
    extract = [
        "extract",
        str(corpus),
        str(folder),
        "--train-size",
        "2",
        "--val-size",
        "1",
        "--test-size",
        "1",
        "--workers",
        "1",
    ]
    assert main(extract) == 2
    error = error_line(capsys)
    assert reason_code(error) == "busy" and str(holder.pid) in numbers(error) and "lock" in error
    holder.kill()
    holder.communicate()
    assert (folder / "logs/lock").exists() and main(extract) == 0 and not (folder / "logs/lock").exists()


def test_lock_is_exclusive(tmp_path):
    "Also when all find that of a dead process."
    code = f"import sys; from {Lock.__module__} import Lock; " + TAKE
    for _ in range(2):
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        all = [start(sys.executable, "-c", code, tmp_path / "lock", **pipes) for _ in range(4)]
        lines = [p.stdout.readline() for p in all]
        assert sorted(lines) == ["", "", "", "mine\n"]
        for process in all:
            process.kill()
            process.communicate()
        assert [p.name for p in tmp_path.iterdir()] == ["lock"]


def test_lock_of_another_machine_expires(tmp_path):
    lock = tmp_path / "lock"
    lock.write_text('{"work": "rendering", "pid": 1, "machine": "far away", "started": "1", "token": ""}')
    error = rejection(Lock.take, lock, "test")
    assert error.reason == "busy" and "far away" in error.message  # the name of the machine
    os.utime(lock, (time.time() - 3600,) * 2)
    Lock.take(lock, "test").release()
    assert not lock.exists()


def test_function_that_workers_cannot_import_is_one_error(tmp_path, capfd, monkeypatch):
    (tmp_path / "fleeting.py").write_text("def twice(id): return 2 * id\n")
    monkeypatch.syspath_prepend(tmp_path)
    import fleeting

    (tmp_path / "fleeting.py").unlink()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    for function in (fleeting.twice, lambda id: id):
        with Journal(tmp_path / "run.jsonl", {}) as journal:
            assert reason(run, function, IDS, journal, workers=2) == "not_importable"
    assert not capfd.readouterr().err


def test_script_without_main_guard_is_rejected(tmp_path):
    program = "run(int, ['0001', '0002'], Journal('run.jsonl', {}), workers=2)\n"
    (tmp_path / "script.py").write_text(
        f"from {Journal.__module__} import Journal\nfrom {run.__module__} import run\n" + program
    )
    result = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and "__main__" in result.stderr.splitlines()[-1]


def test_missing_cluster_is_one_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module_of(cluster), "_CONNECT_TIMEOUT", 0.3)
    arguments = ["synthesize", str(tmp_path / "new"), "--scheduler"]
    reasons = []
    for address, module in (("tcp://127.0.0.1:1", ...), ("here:there", ...), ("tcp://127.0.0.1:1", None)):
        with monkeypatch.context() as patch:
            if module is None:
                patch.setitem(sys.modules, "distributed", None)
            assert main([*arguments, address]) == 2
        error = error_line(capsys)
        reasons.append(reason_code(error))
    assert reasons[2] == "missing_extra" and "cadvlm[cluster]" in error and not list(tmp_path.iterdir())
    assert set(reasons[:2]) <= {"no_cluster", "missing_extra"}
    assert reason(available_workers, 2, "tcp://127.0.0.1:1") == "bad_setting"
