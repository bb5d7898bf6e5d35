"""Train the transformer, and measure what data, samples and search each bring.

`make ladder` does it with a small model on one processor, `tools/gpu.sh` on a machine with one graphics card.
The phases share a folder (--work), and each does only what it does not find there. `prepare` makes the codes of the
corpus, draws the parts to be tested and the first sheets, and lets PyTorch compile. `measure` trains for a number of
seconds while the other sheets are drawn, reads all tested parts, chooses and searches, and trains the small model on
1K, 10K and 100K sheets; `scales` does the last, too, from its end, for a processor that has nothing to do meanwhile.
`expert` trains on with the answers to half of the real drawings that their own drawing certifies, and reads the other
half. Rows are written to --output as they are there. All work on the processors goes over --workers processes beside
the graphics card.
"""
import argparse
import csv
import datetime
import functools
import io
import json
import lzma
import math
import multiprocessing
import os
import platform
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from filelock import FileLock

import ladder_work as work
from cadvlm.learn.choose import CERTIFIED, Target
from cadvlm.measure.summary import interval
from cadvlm.learn.fit import Recipe, Trainer, batches, exact_or_fast, load, losses_of
from cadvlm.learn.ink import ink_of_image
from cadvlm.learn.sheets import Sheets, spread
from cadvlm.learn.vocabulary import END, START, WHOLE, automaton, to_ids, to_text
from cadvlm.learn.model import best_device
from cadvlm.learn.transformer import Size, parameters, write


@dataclass(frozen=True)
class Plan:
    "Sizes of everything."
    parts: int = 100_000
    first: int = 10_000         # whose sheets are there before the training begins
    tested: int = 500           # synthetic parts that no corpus has
    real: int = 0               # real parts at most; 0 for all
    chunk: int = 250            # parts of a shard
    size: Size = Size()
    longest: int = 256          # tokens: parts of more are not trained on
    augment: bool = True
    batch: int = 512
    learning_rate: float = 2e-3
    fixed: int = 64             # tokens of the short part of a batch
    samples: int = 16
    temperature: tuple = (1., .4, .6, .8, 1.)    # of the samples in turn; the first of each part is greedy
    budget: int = 150           # drawings of a search
    turns: int = 6              # how often each part is turned, at most
    small: Size = Size(width=192, heads=3, encoder=4, decoder=3)
    scales: tuple = (1_000, 10_000, 100_000)
    seeds: int = 2
    steps: int = 1200           # of each run of the comparison
    small_batch: int = 256
    small_rate: float = 2e-3
    read_batch: int = 128       # sheets that are read at a time
    expert: int = 1200          # steps of expert iteration, each way
    expert_turns: int = 8       # ways in which a certified part lies
    certified: float = CERTIFIED


TINY = Size(64, 32, 2, 1, 1, 48)
HOME_SIZE = Size(128, 64, 2, 2, 1, 160)
HOME = Plan(first=100_000, size=HOME_SIZE, augment=False, batch=64, fixed=0, budget=100, turns=0,
            small=HOME_SIZE, steps=4_400, small_batch=64)
DRY = Plan(parts=60, first=40, tested=6, real=4, chunk=20, size=TINY, batch=16, fixed=32, samples=4, budget=8, turns=1,
           small=TINY, scales=(20, 40, 50), seeds=1, steps=6, small_batch=8, read_batch=4, expert=4, expert_turns=2,
           certified=0.)


class Clock:
    "Seconds since the start, and what is left."
    def __init__(self, limit): self.start, self.limit = time.perf_counter(), limit

    @property
    def left(self): return self.limit - (time.perf_counter() - self.start)

    def say(self, text): print(f"[{time.perf_counter() - self.start:6.1f} s] {text}", flush=True)


def about(device):
    "What every row says of the machine."
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    def known(n):
        try: return version(n)
        except PackageNotFoundError: return ""
    versions = " ".join(f"{n} {known(n)}".strip() for n in ("cadvlm", "torch", "numpy", "manifold3d"))
    return dict(date=datetime.date.today().isoformat(), machine=f"{name}, {len(os.sched_getaffinity(0))} cores",
                python=platform.python_version(), versions=versions)


def add_row(path, row):
    "Write a row behind those that are there."
    rows = list(csv.DictReader(path.open(newline=""))) if path.exists() else []
    rows.append({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
    columns = list(dict.fromkeys(k for r in rows for k in r))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n"); writer.writeheader(); writer.writerows(rows)
    path.write_text(text.getvalue())


def pooled(workers):
    "A pool of processes; what they import is imported once."
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ladder_work"])
    work.begin()                                       # compile once, before many would
    return context.Pool(workers, work.begin)


def results(jobs, clock, spare=0.):
    "The values of asynchronous jobs; None for one that failed or would leave less than `spare` seconds."
    for job in jobs:
        try: yield job.get(max(0., clock.left - spare))
        except multiprocessing.TimeoutError: yield None
        except Exception as e: print(f"a worker failed: {type(e).__name__}: {e}", flush=True); yield None


# ---- prepare ---------------------------------------------------------------------------------------------

def corpus(plan, args, pool, clock):
    "Texts of the corpus in order, those carried along and those made now, without the tested ones."
    path = args.work / "codes.jsonl"
    known = {}
    for source in (args.codes, path):
        if source and source.exists():
            with (lzma.open(source, "rt") if source.suffix == ".xz" else source.open()) as f:
                known |= {i: code for i, code in map(json.loads, f)}
    missing = list(range(max(known, default=-1) + 1, plan.parts))
    if missing:
        jobs = [pool.apply_async(work.codes_of, (0, missing[k:k + plan.chunk]))
                for k in range(0, len(missing), plan.chunk)]
        made = [row for rows in results(jobs, clock, 5) if rows for row in rows]
        known |= dict(made)
        with path.open("a") as f: f.writelines(json.dumps(row) + "\n" for row in made)
    clock.say(f"corpus: {len(known):,} codes, {len(missing):,} of them to be made now")
    return [known[i] for i in sorted(known) if i < plan.parts]


def tested(plan, args, pool, clock):
    "The parts to be tested, drawn."
    path = args.work / "tested.npy"
    if path.exists(): return list(np.load(path, allow_pickle=True))
    files = sorted(args.real.rglob("*.json")) if args.real and args.real.exists() else []
    files = [f for f in files if f.stem != "train_val_test_split"]
    if plan.real: files = files[:: max(1, len(files)//plan.real)][:plan.real]
    asked = [("synthetic", i) for i in range(plan.tested)] + [("real", str(f)) for f in files]
    items = [r for r in results([pool.apply_async(work.item_of, job) for job in asked], clock, 5) if r]
    np.save(path, np.array(items, dtype=object), allow_pickle=True)
    clock.say(f"tested parts: {len(items):,} of {len(asked):,} can be drawn")
    return items


def keep(path, shard):
    "Write a shard beside its place, then there."
    beside = path.with_suffix(".part")
    with beside.open("wb") as f: np.savez(f, **shard)
    beside.rename(path)


def keep_text(path, text):
    "Write a text beside its place, then there."
    beside = path.with_suffix(".part")
    beside.write_text(text)
    beside.rename(path)


def shard_path(args, k): return args.work / f"shard_{k:07d}.npz"


def draw_shards(plan, args, texts, pool, clock):
    "The first sheets of the corpus, in files of --work."
    size, waiting = plan.size.image, {}
    for k in range(0, min(plan.first, len(texts)), plan.chunk):
        path = shard_path(args, k)
        if not path.exists(): waiting[path] = pool.apply_async(work.shard_of, (texts[k:k + plan.chunk], size))
    for path, shard in zip(waiting, results(waiting.values(), clock, 3)):
        if shard: keep(path, shard)
    clock.say(f"sheets: {len(waiting):,} shards drawn")


def read_shards(args, count=0, chunk=1):
    "Shards in their order, up to so many parts."
    paths = sorted(args.work.glob("shard_*.npz"))
    return [dict(np.load(p)) for p in (paths[:-(-count//chunk)] if count else paths)]


def warm(plan, args, device, clock, drawing):
    "Let PyTorch compile for the shapes of the long run, and say how fast it is."
    shards = read_shards(args, 4*plan.batch, plan.chunk)
    while not shards and drawing.is_alive(): time.sleep(1); shards = read_shards(args, 4*plan.batch, plan.chunk)
    sheets = Sheets(plan.size.image, device); sheets.add(shards)
    for name, size, batch in (("large", plan.size, plan.batch), ("small", plan.small, plan.small_batch)):
        trainer = Trainer(size, Recipe(steps=50, batch=batch, compile=args.compile), device)
        rng = np.random.default_rng(0)
        for k in range(24):
            if k == 4: wait(device); start = time.perf_counter()
            loss = trainer.step(sheets, rng.integers(0, len(sheets), batch), k/50, plan.fixed)
        wait(device)
        rate = 20*batch/(time.perf_counter() - start)
        (args.work / f"rate_{name}").write_text(str(rate))
        clock.say(f"{name}: {parameters(trainer.model):,} parameters, {rate:,.0f} sheets/s, loss {float(loss):.3f}, "
                  + memory(device))
        if clock.left < 30: break
    with exact_or_fast(device): texts = write(trainer.average, spread(sheets[np.arange(min(8, len(sheets)))]), 4)
    clock.say(f"writes {texts[0][0][:60]!r}")


def wait(device):
    if device.type == "cuda": torch.cuda.synchronize()


def memory(device):
    return f"{torch.cuda.max_memory_allocated()/2**30:.1f} GiB" if device.type == "cuda" else "on the processor"


def seconds_left(plan, args, clock):
    "Of training the large model: what the comparison of scales, reading, judging and writing leave."
    rate = float((args.work / "rate_small").read_text()) if (args.work / "rate_small").exists() else 1e4
    runs = len(plan.scales)*plan.seeds*(plan.steps*plan.small_batch/rate + 6)
    clock.say(f"the comparison of scales will take {runs:.0f} s")
    return clock.left - runs - 100


# ---- training --------------------------------------------------------------------------------------------

class Stream:
    """Sheets that the workers make while the model is trained.

    First those that were not drawn before, which are kept; then all of them turned, again and again.
    """
    def __init__(self, plan, args, texts, pool):
        self.made, self.lock, self.pool, self.on, self.args = [], threading.Lock(), pool, True, args
        starts = range(0, len(texts), plan.chunk)
        left = [(0, k) for k in starts if not shard_path(args, k).exists()]
        left += [(turn, k) for turn in range(1, plan.turns + 1) for k in starts]
        self.jobs = iter([(turn, k, (texts[k:k + plan.chunk], plan.size.image, turn*len(texts) + k if turn else None))
                          for turn, k in left])
        for _ in range(args.workers + 2): self.next()

    def next(self):
        turn, k, job = (next(self.jobs, None) if self.on else None) or (0, 0, None)
        if job:
            self.pool.apply_async(work.shard_of, job, callback=functools.partial(self.take, turn, k),
                                  error_callback=lambda e: self.next())

    def take(self, turn, k, shard):
        if shard:
            if not turn: keep(shard_path(self.args, k), shard)
            with self.lock: self.made.append(shard)
        self.next()

    def taken(self):
        with self.lock: made, self.made = self.made, []
        return made


def train_large(plan, args, texts, pool, device, clock, seconds):
    "The model, trained for so many seconds on the corpus and on what is turned meanwhile."
    path = args.work / "large.pt"
    if path.exists(): return load(path, device), torch.load(path, weights_only=True)["facts"]
    sheets = Sheets(plan.size.image, device); sheets.add(read_shards(args))
    clock.say(f"{len(sheets):,} sheets on the device, {memory(device)}")
    stream = Stream(plan, args, texts, pool)
    recipe = Recipe(steps=0, batch=plan.batch, learning_rate=plan.learning_rate, compile=args.compile,
                    average=.998 if plan.batch > 16 else .9, augment=plan.augment)
    trainer = Trainer(plan.size, recipe, device)
    rng, start, reported, grown, losses = np.random.default_rng(0), None, time.perf_counter(), time.perf_counter(), []
    share = 0.
    while share < 1:
        losses.append(trainer.step(sheets, rng.integers(0, len(sheets), plan.batch), share, plan.fixed))
        if trainer.done == 3: wait(device); start = time.perf_counter()
        if start: share = (time.perf_counter() - start)/seconds
        now = time.perf_counter()
        if now - grown > (15 if device.type == "cuda" else 2):
            if made := stream.taken(): sheets.add(made)
            grown = now
        if trainer.done % 4 == 0: wait(device)                       # the queue stays short, so that the clock is right
        if start and now - reported > 20:
            loss, rate = float(torch.stack(losses[-50:]).mean()), trainer.done*plan.batch/(now - start)
            clock.say(f"step {trainer.done:,}, loss {loss:.3f}, {len(sheets):,} sheets, {rate:,.0f} sheets/s")
            reported = now
    stream.on = False
    facts = dict(parameters=parameters(trainer.model), sheets=len(sheets), steps=trainer.done, batch=plan.batch,
                 passes=trainer.done*plan.batch/len(sheets),
                 train_seconds=time.perf_counter() - start, train_loss=float(torch.stack(losses[-100:]).mean()))
    keep_model(path, trainer.average, facts, [round(float(l), 4) for l in losses[::20]])
    clock.say(f"trained: {facts}")
    return trainer.average, facts


def keep_model(path, average, facts, losses):
    "Write the averaged weights, as bfloat16."
    weights = {k: v.to(torch.bfloat16) for k, v in average.state_dict().items()}
    torch.save(dict(size=asdict(average.size), average=weights, whole=WHOLE, facts=facts, losses=losses), path)


def shards_of_checkpoint(args):
    "The checkpoint in pieces of less than 16 MB: `cat large.pt.* > large.pt`."
    data = (args.work / "large.pt").read_bytes()
    for old in args.output.glob("large.pt.*"): old.unlink()
    for i in range(0, len(data), 15_000_000):
        (args.output / f"large.pt.{i//15_000_000}").write_bytes(data[i:i + 15_000_000])


# ---- the ladder ------------------------------------------------------------------------------------------

def inks(items, size, device):
    return torch.from_numpy(np.stack([ink_of_image(work.opened(i), size) for i in items])).to(device)


def read_all(model, items, plan, device, samples, shown=lambda ink: ink):
    "Texts for all items, those of each with the greedy one first."
    texts = []
    for k in range(0, len(items), plan.read_batch):
        ink = shown(inks(items[k:k + plan.read_batch], model.size.image, device))
        with torch.inference_mode(), exact_or_fast(device):
            texts += write(model, ink, samples, temperature=plan.temperature, seed=k)
    return texts


def figures(items, kind, scores, agreements=None):
    "Columns of a row: mean IoU with failures as 0, and so on."
    mine = [k for k, i in enumerate(items) if i["kind"] == kind]
    found = np.array([scores[k] or 0. for k in mine])
    row = dict(parts=len(mine), iou=float(found.mean()), iou_median=float(np.median(found)),
               invalid_ratio=float(np.mean([scores[k] is None for k in mine])))
    low, high = interval(found, [items[k]["id"] for k in mine]) or (math.nan, math.nan)
    row |= dict(iou_low=low, iou_high=high)
    if agreements is not None:
        a = np.array([agreements[k] for k in mine])
        row |= dict(agreement=float(np.maximum(a, 0).mean()), certified=float((a >= CERTIFIED).mean()),
                    iou_certified=float(found[a >= CERTIFIED].mean()) if (a >= CERTIFIED).any() else "")
    return row


def add_rungs(args, items, rung, scores, base, agreements=None):
    for kind in dict.fromkeys(i["kind"] for i in items):
        row = base | dict(test=kind, rung=rung) | figures(items, kind, scores, agreements)
        add_row(args.output / "ladder.csv", row)
        print(f"    {kind:<10} {rung:<28} IoU {row['iou']:.3f} ({row['iou_low']:.3f} to {row['iou_high']:.3f}), "
              f"invalid {row['invalid_ratio']:.3f}, certified {row.get('certified', '')}", flush=True)


def ngram_text(texts, most=60):
    "The likeliest text of a 5-gram model, which sees no drawing, by the longest context that is known."
    counts = {}
    for text in texts[:20_000]:
        ids = to_ids(text).tolist()
        for k in range(1, len(ids)):
            for n in range(1, 6):
                counts.setdefault(tuple(ids[max(0, k - n + 1):k]), Counter())[ids[k]] += 1
    ids, state, a = [START], automaton().start, automaton()
    while ids[-1] != END:
        contexts = [tuple(ids[len(ids) - n:]) for n in range(4, -1, -1)]
        able = ([t for t in counts.get(c, ()) if a.to_end[a.after[state, t]] < most - len(ids)] for c in contexts)
        context, tokens = next((c, ts) for c, ts in zip(contexts, able) if ts)
        ids.append(max(tokens, key=counts[context].__getitem__))
        state = a.after[state, ids[-1]]
    return to_text(ids[1:])


def judged(pool, items, texts, clock, spare, drawn=True):
    "`[[agreement, IoU]]` for all items; nothing for those that were too late."
    jobs = [pool.apply_async(work.judge, (i, t, drawn)) for i, t in zip(items, texts)]
    return [r or [(-1., None)]*len(t) for r, t in zip(results(jobs, clock, spare), texts)]


def ladder(plan, args, model, items, texts, pool, device, clock, facts):
    "The rungs without a search; what a search begins with is returned."
    (args.output / "ladder.csv").unlink(missing_ok=True)               # of a run that was stopped
    base = about(device) | dict(model="transformer") | facts
    say = read_all(model, items, plan, device, plan.samples)
    with lzma.open(args.output / "candidates.jsonl.xz", "wt") as f:
        for i, t in zip(items, say):
            f.write(json.dumps(dict(kind=i["kind"], id=i["id"], truth=i["code"], texts=t)) + "\n")
    ablations = {"another part's sheet": lambda ink: ink.roll(1, 0), "blank sheet": torch.zeros_like}
    others = {name: read_all(model, items, plan, device, 1, shown) for name, shown in ablations.items()}
    clock.say("all tested parts are read")
    scores = judged(pool, items, say, clock, 20)
    best = [int(np.argmax([a for a, _ in s])) for s in scores]
    chosen = [s[b] for s, b in zip(scores, best)]
    clock.say("all candidates are drawn")
    add_rungs(args, items, "greedy", [s[0][1] for s in scores], base, [s[0][0] for s in scores])
    add_rungs(args, items, f"chosen of {plan.samples}", [v for _, v in chosen], base, [a for a, _ in chosen])
    add_rungs(args, items, f"best of {plan.samples} by the truth",
              [max((v for _, v in s if v is not None), default=None) for s in scores], base)
    gram = ngram_text(texts)
    for name, t in (others | {"5-gram, no drawing": [[gram]]*len(items)}).items():
        add_rungs(args, items, name, [s[0][1] for s in judged(pool, items, t, clock, 15, False)], base)
    return base, say, scores, best


def start_searches(plan, items, say, scores, best, pool):
    "Jobs, one for each item that is not right yet."
    order = sorted((k for k in range(len(items)) if scores[k][best[k]][0] < .9995),
                   key=lambda k: items[k]["kind"] != "real")
    return {k: pool.apply_async(work.seek, (items[k], say[k][best[k]], list(dict.fromkeys(say[k])), plan.budget))
            for k in order}


def end_searches(plan, args, items, say, scores, best, jobs, base, clock, spare):
    "The rung of the search: what was not searched in time stays as it was chosen."
    found = [dict(text=t[b], agreement=s[b][0], iou=s[b][1], drawings=0) for t, b, s in zip(say, best, scores)]
    late = 0
    for k, r in zip(jobs, results(jobs.values(), clock, spare)):
        if r and r["agreement"] >= found[k]["agreement"]: found[k] = r
        late += r is None
    made = sum(f["drawings"] for f in found)
    clock.say(f"searched: {len(jobs):,} programs, {late:,} of them not in time, {made:,} drawings")
    add_rungs(args, items, "chosen and searched", [f["iou"] for f in found],
              base | dict(budget=plan.budget, late=late), [f["agreement"] for f in found])
    rows = []
    for i, t, s, b, r in zip(items, say, scores, best, found):
        row = dict(kind=i["kind"], id=i["id"], truth=i["code"], greedy=t[0], greedy_iou=s[0][1])
        row |= dict(chosen=t[b], chosen_iou=s[b][1], chosen_agreement=s[b][0])
        row |= dict(searched=r["text"], searched_iou=r["iou"], agreement=r["agreement"], drawings=r["drawings"])
        rows.append(row | dict(best_iou=max((v for _, v in s if v is not None), default=None)))
    with lzma.open(args.output / "searched.jsonl.xz", "wt") as f: f.writelines(json.dumps(r) + "\n" for r in rows)
    # examples are synthetic parts whose own code has a solid
    made = [r for i, r in zip(items, rows) if i["kind"] == "synthetic" and Target(work.opened(i)).score(i["code"]) >= 0]
    (args.output / "examples.json").write_text(json.dumps(made[::max(1, len(made)//6)][:6], indent=1) + "\n")


# ---- the comparison of scales ----------------------------------------------------------------------------

def held_out(items, plan, device):
    "Sheets of the tested parts with code, by kind, for losses."
    found = {}
    for kind in dict.fromkeys(i["kind"] for i in items):
        mine = [i for i in items if i["kind"] == kind and i["code"] and len(to_ids(i["code"])) <= plan.small.tokens + 1]
        sheets = Sheets(plan.small.image, device)
        inked = [np.round(ink_of_image(work.opened(i), plan.small.image)*15).astype(np.uint8)*16 for i in mine]
        if mine: sheets.add([work.pack(inked, [to_ids(i["code"]) for i in mine])]); found[kind] = sheets
    return found


def scale_run(plan, args, scale, seed, sheets, tests, items, device, clock):
    "A small model trained on the first `scale` sheets: its row, its losses on each test, and its greedy texts."
    recipe = Recipe(steps=plan.steps, batch=min(plan.small_batch, scale), learning_rate=plan.small_rate,
                    augment=plan.augment, compile=args.compile, seed=seed)
    trainer, start = Trainer(plan.small, recipe, device), time.perf_counter()
    stream, losses = batches(scale, recipe.batch, seed), []
    for k in range(recipe.steps):
        losses.append(trainer.step(sheets, next(stream), k/recipe.steps, plan.fixed))
        if k % 50 == 0 and clock.left < 15: clock.say("out of time: this run counts for nothing"); return None
    wait(device)
    row = dict(parts=scale, seed=seed, steps=recipe.steps, batch=recipe.batch, passes=recipe.steps*recipe.batch/scale,
               parameters=parameters(trainer.model), image=plan.small.image, learning_rate=recipe.learning_rate,
               seconds=time.perf_counter() - start, train_loss=float(torch.stack(losses[-50:]).mean()))
    found = {}
    for kind, held in tests.items():
        for name, shown in dict(loss=spread, shuffled=lambda ink: spread(ink).roll(1, 0),
                                blank=lambda ink: torch.zeros_like(spread(ink))).items():
            nats, counts = losses_of(trainer.average, held, 128, shown)
            found.setdefault(kind, {})[name] = float(nats.sum()/counts.sum())
    texts = read_all(trainer.average, items, plan, device, 1)
    clock.say(f"scale {scale:,}, seed {seed}: {row['seconds']:.0f} s, loss {row['train_loss']:.3f}, "
              + ", ".join(f"{k} {f['loss']:.3f}" for k, f in found.items()))
    return row, found, texts


def compare_scales(plan, args, sheets, tests, items, device, clock, spare=0., backwards=False):
    """Runs as long as there is time, each with what it wrote, and kept for a comparison that was stopped.

    Two processes may do it at the same time, one of them backwards: what the other has kept need not be done.
    """
    asked, runs, longest = [(scale, seed) for seed in range(plan.seeds) for scale in plan.scales], [], 0.
    for scale, seed in reversed(asked) if backwards else asked:
        kept = args.work / f"scale_{scale}_{seed}.json"
        with FileLock(kept.with_suffix(".lock")):      # where the two meet, one waits for the other
            if not kept.exists():
                if clock.left - spare < 1.1*longest: clock.say(f"no time for scale {scale:,}, seed {seed}"); continue
                start = time.perf_counter()
                found = scale_run(plan, args, min(scale, len(sheets)), seed, sheets, tests, items, device, clock)
                if not found: return runs
                keep_text(kept, json.dumps(found))
                longest = max(longest, time.perf_counter() - start)
        runs.append(json.loads(kept.read_text()))
    return runs


def write_scales(args, runs, sheets, tests, items, pool, device, clock):
    "A row for each run and test, with the loss of the best n-gram of the same texts, and the IoU of what it wrote."
    (args.output / "scaling.csv").unlink(missing_ok=True)
    grams = {(parts, kind): pool.apply_async(work.ngram, (sheets.texts[:parts], held.texts))
             for parts in {row["parts"] for row, *_ in runs} for kind, held in tests.items()}
    grams = dict(zip(grams, results(grams.values(), clock, 3)))
    for row, losses, texts in runs:
        scores = [s[0][1] for s in judged(pool, items, texts, clock, 3, False)]
        for kind in tests:
            found = figures(items, kind, scores)
            found = {k: found[k] for k in ("iou", "iou_low", "iou_high", "invalid_ratio")}
            add_row(args.output / "scaling.csv", about(device) | row | dict(test=kind) | losses[kind]
                    | dict(ngram=grams[row["parts"], kind]) | found)
    clock.say(f"comparison of scales: {len(runs)} runs")


# ---- expert iteration ------------------------------------------------------------------------------------

SHARE = .25                 # of a batch that is of certified answers


def certified_sheets(plan, args, kind, pool, clock):
    "How many answers their drawings certify, of every other drawing of a kind, and their packed sheets."
    with lzma.open(args.output / "searched.jsonl.xz", "rt") as f: rows = [json.loads(line) for line in f]
    asked = [r for r in rows if r["kind"] == kind][::2]
    found = [r for r in asked if r["agreement"] >= plan.certified]
    texts = [r["searched"] for r in found]
    jobs = [pool.apply_async(work.shard_of, (texts, plan.size.image, turn or None))
            for turn in range(plan.expert_turns)]
    clock.say(f"{len(found):,} of {len(asked):,} drawings have a certified answer, "
              f"mean IoU {np.mean([r['searched_iou'] or 0. for r in found] or [0]):.3f}")
    return len(found), [shard for shard in results(jobs, clock) if shard]


def train_on(plan, args, sheets, count, share, device):
    "The large model, trained on; a share of each batch is of the sheets from number `count` on."
    recipe = Recipe(steps=plan.expert, batch=plan.batch, learning_rate=plan.learning_rate/5, compile=args.compile,
                    augment=plan.augment, average=.998 if plan.batch > 16 else .9)
    trainer, rng = Trainer(plan.size, recipe, device), np.random.default_rng(0)
    for made in (trainer.model, trainer.average):
        made.load_state_dict(load(args.work / "large.pt", device).state_dict())
    few = round(share*plan.batch)
    for k in range(plan.expert):
        rows = np.concatenate((rng.integers(0, count, plan.batch - few), rng.integers(count, len(sheets), few)))
        trainer.step(sheets, rows, k/plan.expert, plan.fixed)
    wait(device)
    return trainer.average


def expert(plan, args, pool, device, clock):
    "Rows of the model before, trained on without, and with certified answers: of drawings that it has, and has not."
    items = tested(plan, args, pool, clock)
    kind = "real" if any(i["kind"] == "real" for i in items) else "synthetic"
    asked, rest = ([i for i in items if (i["kind"] == kind) == same] for same in (True, False))
    halves = zip(("in training", "new"), (asked[::2], asked[1::2]))
    items = [i | dict(kind=name) for name, half in halves for i in half] + rest
    certified, shards = certified_sheets(plan, args, kind, pool, clock)
    if not shards: clock.say("no answer is certified: there is nothing to learn from"); return
    sheets = Sheets(plan.size.image, device); sheets.add(read_shards(args))
    count = len(sheets); sheets.add(shards)
    table = args.output / "expert.csv"
    known = {row["arm"] for row in csv.DictReader(table.open(newline=""))} if table.exists() else ()
    for arm, share in (("before", None), ("trained on", 0.), ("with certified answers", SHARE)):
        if arm in known: continue
        model = load(args.work / "large.pt", device) if share is None else \
            train_on(plan, args, sheets, count, share, device)
        texts = read_all(model, items, plan, device, 1)
        scores = [s[0][1] for s in judged(pool, items, texts, clock, 0, False)]
        for test in dict.fromkeys(i["kind"] for i in items):
            row = dict(arm=arm, steps=0 if share is None else plan.expert, certified_parts=certified, test=test)
            add_row(table, about(device) | row | figures(items, test, scores))
        clock.say(f"{arm}: {len(texts):,} drawings are read")


# ---- all of it -------------------------------------------------------------------------------------------

def prepare(plan, args, pool, device, clock):
    items = tested(plan, args, pool, clock)
    texts = corpus(plan, args, pool, clock)
    apart = {i["code"] for i in items}
    texts = list(dict.fromkeys(t for t in texts if t not in apart))
    texts = [t for t in texts if len(to_ids(t)) <= plan.longest + 1]
    (args.work / "texts.json").write_text(json.dumps(texts))
    drawing = threading.Thread(target=draw_shards, args=(plan, args, texts, pool, clock))
    drawing.start()
    if args.compile or args.dry_run: warm(plan, args, device, clock, drawing)
    drawing.join()
    return items, texts


def measure(plan, args, pool, device, clock, after):
    items, texts = tested(plan, args, pool, clock), json.loads((args.work / "texts.json").read_text())
    model, facts = train_large(plan, args, texts, pool, device, clock,
                               args.seconds or max(30., seconds_left(plan, args, clock)))
    shards_of_checkpoint(args)
    done = (args.output / "searched.jsonl.xz").exists()
    if not done:
        base, say, scores, best = ladder(plan, args, model, items, texts, pool, device, clock, facts)
        jobs = start_searches(plan, items, say, scores, best, pool)
    sheets = Sheets(plan.size.image, device); sheets.add(read_shards(args))
    tests = held_out(items, plan, device)
    runs = compare_scales(plan, args, sheets, tests, items, device, clock, after + 10)
    if not done: end_searches(plan, args, items, say, scores, best, jobs, base, clock, after)
    pool.terminate()                                   # with what was not in time
    with pooled(args.workers) as pool: write_scales(args, runs, sheets, tests, items, pool, device, clock)


def scales(plan, args, device, clock):
    "The comparison of scales from its end, beside a processor that trains the large model."
    items = tested(plan, args, None, clock)
    sheets = Sheets(plan.size.image, device); sheets.add(read_shards(args))
    compare_scales(plan, args, sheets, held_out(items, plan, device), items, device, clock, backwards=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=("prepare", "scales", "measure", "expert", "all"), nargs="?", default="all")
    parser.add_argument("--output", type=Path, default=Path("data/ladder"))
    parser.add_argument("--work", type=Path, default=Path("data/ladder/work"))
    parser.add_argument("--codes", type=Path, help="compact codes made before, JSON lines of [number, code], also .xz")
    parser.add_argument("--real", type=Path, help="folder of DeepCAD JSON files to test on; never trained on")
    parser.add_argument("--seconds", type=float, default=300, help="of training; 0 for what --limit leaves")
    parser.add_argument("--limit", type=float, default=86400, help="seconds of a phase, in all")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--parts", type=int, help="of the corpus")
    parser.add_argument("--home", action="store_true",
                        help="a small model and fewer tested parts, for one processor and an hour")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes: everything in seconds")
    args = parser.parse_args()
    plan = DRY if args.dry_run else HOME if args.home else Plan()
    device, clock = best_device(args.device), Clock(args.limit)
    if args.parts: plan = replace(plan, parts=args.parts)
    for folder in (args.output, args.work): folder.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    if args.phase == "scales": return scales(plan, args, device, clock)
    with pooled(args.workers) as pool:
        clock.say(f"{args.phase} on {about(device)['machine']}, {args.workers} workers")
        after = 2 if args.dry_run else 25
        if args.phase in ("prepare", "all"): prepare(plan, args, pool, device, clock)
        if args.phase in ("measure", "all"): measure(plan, args, pool, device, clock, after)
    if args.phase in ("expert", "all"):
        with pooled(args.workers) as pool: expert(plan, args, pool, device, clock)
    clock.say("done")


if __name__ == "__main__": main()
