"""A Slurm of shell scripts: sbatch numbers jobs and lists them as pending, squeue shows the list."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

SBATCH = """
state={state}
[ -e $state/before ] && . $state/before
n=$(( $(cat $state/count) + 1 ))
echo $n > $state/count
cp "$2" $state/script.$n
env > $state/env.$n
name=$(sed -n 's/^#SBATCH --job-name=//p' "$2")
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$2")
if grep -qx $n $state/refused; then
  echo 'sbatch: error: first reason' >&2
  echo 'sbatch: error: Batch job submission failed: second reason' >&2
  exit 1
fi
if [ -n "$last" ]; then
  for i in $(seq 0 $last); do echo "$n|$i|PENDING|Resources||0:00|$name" >> $state/queue; done
else
  echo "$n|N/A|PENDING|Resources||0:00|$name" >> $state/queue
fi
[ -e $state/after ] && . $state/after
echo $n
"""
SQUEUE = """
state={state}
[ -e $state/looks ] && . $state/looks
names=
while [ $# -gt 0 ]; do [ "$1" = --name ] && names=$2; shift; done
[ -n "$names" ] || exec cat $state/queue
awk -F'|' -v names=",$names," 'index(names, "," $7 ",")' $state/queue
"""


@dataclass(frozen=True)
class FakeSlurm:
    """Where the scripts are and what they keep: `queue` is what squeue shows, `script.N` what became job N.

    sbatch runs the shell lines in `before` and `after`, before and after it has queued a job; squeue those in `looks`.
    """

    state: Path

    @classmethod
    def make(cls, folder: Path, largest_array: int = 1001) -> "FakeSlurm":
        """Write the scripts into `folder`/bin."""
        (folder / "bin").mkdir(parents=True)
        config = f"echo 'MaxArraySize            = {largest_array}'"
        for name, script in {"sbatch": SBATCH, "squeue": SQUEUE, "scontrol": config, "srun": "", "scancel": ""}.items():
            path = folder / "bin" / name
            path.write_text("#!/bin/sh\n" + script.replace("{state}", str(folder)))
            path.chmod(0o755)
        for name, content in {"count": "0\n", "queue": "", "refused": ""}.items():
            (folder / name).write_text(content)
        return cls(folder)

    @property
    def path(self) -> str:
        """PATH with the scripts in front."""
        return f"{self.state / 'bin'}:{os.environ['PATH']}"

    @property
    def calls(self) -> int:
        """How often sbatch was called."""
        return int((self.state / "count").read_text())

    def refuse(self, *calls: int) -> None:
        """Have these calls of sbatch refused, counted from 1."""
        (self.state / "refused").write_text("".join(f"{call}\n" for call in calls))

    def end(self, *jobs: int) -> None:
        """Let jobs leave the queue, as the controller forgets them."""
        path = self.state / "queue"
        kept = [line for line in path.read_text().splitlines(True) if int(line.partition("|")[0]) not in jobs]
        path.write_text("".join(kept))

    def options(self, job: int) -> dict[str, str | None]:
        """The options in the script of a job; None for those without a value."""
        text = (self.state / f"script.{job}").read_text()
        found = re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, re.MULTILINE)
        return {key: value.strip("'") or None for key, value in found}

    def environment(self, job: int) -> set[str]:
        """The names of the variables that sbatch was given."""
        return {line.partition("=")[0] for line in (self.state / f"env.{job}").read_text().splitlines()}
