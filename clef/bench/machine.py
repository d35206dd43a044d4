"""What rates rest on: processor, cores, memory, load, versions, date."""

import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "clef-caer",
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "simplejpeg",
    "opencv-python-headless",
    "webdataset",
    "litdata",
)


BUSY = 0.3
"""The load for each core above which rates are not those of the machine."""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def busy(host: Mapping[str, Any]) -> str | None:
    """A warning, when the machine had more to do than these measurements."""
    if host["load"] <= BUSY * host["cores"]:
        return None
    return f"this machine is busy (load {host['load']} on {host['cores']} cores): these are not its rates"


def facts() -> dict[str, Any]:
    """The machine, as text and numbers that JSON can hold. `load`: processes that wanted a core in the last minute."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": cores(),
        "load": round(os.getloadavg()[0], 1),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
