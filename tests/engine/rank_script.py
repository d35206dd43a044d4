"""Run by test_ranks.py, once a rank: trains a cell and writes down what this rank saw."""

import json
import os
import sys
from pathlib import Path

from clef.config import resolve
from clef.data import manifest as manifests
from clef.data.shards import SplitShards
from clef.engine import provenance, run
from clef.engine.evaluation import evaluate
from clef.engine.train_log import Display
from clef.engine.trainer import Trainer

config = resolve.from_yaml(Path(sys.argv[1]))
out = Path(sys.argv[2])
accelerator = run.start_ranks(config)
root = config.shards
manifest = manifests.load(root)
trainer = Trainer(config, out, manifest, accelerator)
split = SplitShards(root, "test", manifest)
arrays = evaluate(trainer.method, config, split, accelerator, trainer.frozen)

# Batch statistics are those of a rank's share; without them (and dropout) ranks compute what one computes.
trainer.method.train = lambda mode=True: type(trainer.method).train(trainer.method, False)

seen: dict = {"batches": [], "rates": [], "losses": []}
train_step = trainer._train


def watched(batch):  # noqa: ANN201
    names, losses = train_step(batch)
    seen["batches"].append([trainer.train_split.key(int(place)) for place in batch["index"]])
    seen["rates"].append(trainer.optimizer.param_groups[0]["lr"])
    seen["losses"].append(losses.sum().item())
    return names, losses


trainer._train = watched
with Display(config.name, trainer.total_steps, config.epochs, accelerator.is_main_process) as display:
    display.print(run.session_line(provenance.process_facts(config, manifest, accelerator), config))
    trainer.run(display)
seen |= {
    "world": accelerator.num_processes,
    "samples": len(trainer.train_split),
    "config": sys.argv[1],
    "index": arrays["index"].tolist(),
    "scores": arrays["scores"].tolist(),
}
(out / f"rank-{accelerator.process_index}.json").write_text(json.dumps(seen))
accelerator.end_training()
# What is left of the process group would be taken down with the interpreter, under threads of it that still run: once
# that ended in an abort. Everything is written.
sys.stderr.flush()
os._exit(0)
