"""Faults that are meant (`runtime.faults`): struck by rank, step and kind, so that what survives them can be tested."""

import errno
import os
import signal
import time
from collections.abc import Sequence

from torch import Tensor

from clef.config import FaultConfig


class Faults:
    """Those of one rank, each of which strikes once."""

    def __init__(self, faults: Sequence[FaultConfig], rank: int) -> None:
        self.left = [fault for fault in faults if fault.rank == rank]

    def strike(self, where: str, step: int) -> None:
        """Let happen what is due here. Validations and checkpoints are rare: theirs strike at the next chance."""
        for fault in self._due(where, step):
            if fault.kind == "nan":
                continue
            self.left.remove(fault)
            _strike(fault)

    def spoil(self, losses: list[Tensor], step: int) -> list[Tensor]:
        """The loss terms, not numbers any more where that is due."""
        for fault in self._due("step", step):
            if fault.kind == "nan":
                self.left.remove(fault)
                return [loss * float("nan") for loss in losses]
        return losses

    def _due(self, where: str, step: int) -> list[FaultConfig]:
        return [f for f in self.left if f.where == where and (f.step == step or (where != "step" and f.step <= step))]


def _strike(fault: FaultConfig) -> None:
    if fault.kind == "kill":
        os.kill(os.getpid(), signal.Signals[f"SIG{fault.signal}"])
    elif fault.kind == "slow":
        time.sleep(fault.seconds)
    elif fault.kind == "hang":
        while True:
            time.sleep(3600)
    else:
        code = errno.ENOSPC if fault.kind == "disk_full" else errno.EIO
        raise OSError(code, os.strerror(code))
