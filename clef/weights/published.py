"""Fetching what timm, open_clip and torchvision publish under the name of a network: whole, with its revision recorded.

Most of it is on the Hugging Face hub, the rest at a URL of the library's. A license that is not permissive has to be
accepted by its name. Nothing here runs in training, which reads the file that was fetched.
"""

import re
import shutil
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from clef import io
from clef.console import ProgressBars, err
from clef.errors import SetupError, raise_if_system_error
from clef.networks import EXTRA, NetworkRecord
from clef.weights.files import (
    LOCK,
    expected_digest,
    fetch_url,
    locate,
    mirror_url,
    published_path,
    write_digest,
)

PERMISSIVE = frozenset({"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0"})
"""Licenses that need no acceptance; the hub's names of them."""
_FILES = {
    "timm": ("model.safetensors", "pytorch_model.bin"),
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"),
}
"""The names by which the libraries keep weights on the hub, the preferred first."""


def license_note(record: NetworkRecord) -> str:
    """Return a license in words, with what to do where it has to be accepted."""
    if record.license is None and record.hub:
        return "license: see there"
    license = record.license or "unknown"
    needs = "" if license in PERMISSIVE else f" (to fetch it, add --accept-license {license})"
    return f"license {license}{needs}"


def fetch_published(record: NetworkRecord, folder: Path, mirror: str | None, accepted: Collection[str]) -> Path:
    """Fetch the weights of a network into `folder`, unless they are there.

    `mirror`: stands for the hub, and for the host of a URL. `accepted`: the licenses that the user accepts. Raises
    SetupError, in one line, for a license that is not accepted, what the hub gates, and what can't be fetched.
    """
    lock = locate(record.name, folder).with_name(LOCK)
    if io.is_locked(lock):
        err.print(f"waiting for another fetch into {lock.parent}", markup=False, soft_wrap=True)
    with io.lock(lock):
        path = locate(record.name, folder)
        if path.is_file():
            return path
        if record.hub:
            return _from_hub(record, folder, mirror, accepted)
        if record.url:
            return _from_url(record, folder, mirror, accepted)
    raise SetupError(f"{record.name}: no weights are published under this name; name a file of your own, or none")


def _check_license(record: NetworkRecord, license: str | None, accepted: Collection[str]) -> None:
    license = license or "unknown"
    if license not in PERMISSIVE and license not in accepted:
        raise SetupError(
            f"{record.name}: its license, {license}, is not a permissive one; read it at {record.source}, and add "
            f"--accept-license {license} if you accept it"
        )


def _from_url(record: NetworkRecord, folder: Path, mirror: str | None, accepted: Collection[str]) -> Path:
    assert record.url is not None
    _check_license(record, record.license, accepted)
    file = PurePosixPath(urlsplit(record.url).path)
    path = published_path(record.name, folder, file.suffix)
    hashed = re.search(r"-([0-9a-f]{8,64})$", file.stem)  # as torch.hub has it
    expected = expected_digest(record.name, path) or (hashed[1] if hashed else None)
    with ProgressBars("MB") as progress:
        digest = fetch_url(record.name, path, mirror_url(record.url, mirror), expected, progress)
    write_digest(path, digest, record.url)
    return path


def _from_hub(record: NetworkRecord, folder: Path, mirror: str | None, accepted: Collection[str]) -> Path:
    """Fetch the hub's file of today's revision. What was killed goes on where it was, from the folder `.NAME.part`."""
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError:
        raise SetupError(f"{record.name}: huggingface_hub is not installed, which fetches it; run {EXTRA}") from None
    assert record.hub is not None
    repository, _, revision = record.hub.partition("@")
    try:
        info = HfApi(endpoint=mirror).model_info(repository, revision=revision or None, files_metadata=True)
    except Exception as error:  # of several kinds, by the version of the hub's client
        raise _hub_error(record, error) from None
    _check_license(record, record.license or _license_of(info), accepted)
    file = _choose_file(record, info)
    path = published_path(record.name, folder, PurePosixPath(file.rfilename).suffix)
    part = path.with_name(f".{path.name}.part")
    try:
        fetched = hf_hub_download(repository, file.rfilename, revision=info.sha, local_dir=part, endpoint=mirror)
    except Exception as error:
        raise_if_system_error(error, part)
        raise _hub_error(record, error) from None
    digest, source = io.sha256(Path(fetched)), f"{record.source}/blob/{info.sha}/{file.rfilename}"
    for says, expected in (
        ("the hub says", file.lfs.sha256 if file.lfs else None),
        ("the record of an earlier fetch says", expected_digest(record.name, path)),
    ):
        if expected and digest != expected:
            shutil.rmtree(part)
            raise SetupError(
                f"{source}: what came is damaged, or another file: its sha256 is {digest}, {says} {expected}"
            )
    write_digest(path, digest, source)
    Path(fetched).replace(path)
    shutil.rmtree(part)
    return path


def _license_of(info: Any) -> str | None:
    """Return the license that the hub's page of a model names."""
    card = info.card_data or {}
    license = card.get("license")
    return str(card.get("license_name") or license) if license == "other" else license


def _choose_file(record: NetworkRecord, info: Any) -> Any:
    """Return the hub's entry of the file to fetch: that of the record, as safetensors where there is one."""
    there = {file.rfilename: file for file in info.siblings or ()}
    names = _FILES[record.name.partition(":")[0]]
    if record.file:
        names = (str(PurePosixPath(record.file).with_suffix(".safetensors")), record.file)
    for name in names:
        if name in there:
            return there[name]
    raise SetupError(f"{record.source}: has none of the files {', '.join(names)}; name a file of your own by its path")


def _hub_error(record: NetworkRecord, error: Exception) -> SetupError:
    from huggingface_hub.errors import GatedRepoError

    if isinstance(error, GatedRepoError):
        return SetupError(
            f"{record.name}: gated; ask for access at {record.source}, and fetch it with your token in HF_TOKEN"
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    return SetupError(
        f"{record.name}: {record.source} can't be fetched: {reason:.250}; try again, name a mirror of the hub "
        "(--mirror URL), or fetch it elsewhere and copy it into the folder"
    )
