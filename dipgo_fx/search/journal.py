"""A file in which a search notes what it measures, so that one that was stopped goes on from there.

A search decides by what it measured and by nothing else. Run again it asks for the same measurements in the
same order; those that are noted are read, bit for bit, and the model runs for the others only.

After the first line the file is a row of records: the length of a safetensors text, its SHA-256, and the
text, in which one tensor holds the name of what was measured. The first record says of which search. Each is
brought to the disk before the search goes on; one that a killed process left half written is cut off.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

FIRST_LINE = b"dipgo_fx journal of a search, format 1\n"
LENGTH, DIGEST = 8, hashlib.sha256().digest_size
SHOWN = 60
"""Characters of a value that an error shows."""
WHAT, SECONDS = "what", "seconds"
"""The tensors with the name of what was measured, and how long that took."""
CLOSE = 0.02
"""How far what is measured again may be off, relative to the largest value: one row may round otherwise."""
NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
logger = logging.getLogger(__name__)
Tensors = dict[str, torch.Tensor]


class Journal:
    """Notes of one search, read as far as they go and written from there on.

    Args:
        file: where they are; `None` notes nothing.
        identity: what makes a search another one: values by name, as texts.

    Attributes:
        seconds: that the measurements took which were read.
    """

    def __init__(self, file: str | Path | None = None, identity: Mapping[str, str] | None = None) -> None:
        self.file = None if file is None else Path(file)
        self._identity = dict(identity or {})
        self._stream: BinaryIO | None = None
        self.seconds = 0.0

    def __enter__(self) -> Journal:
        """Open the file, made if it is missing, for this process alone.

        Raises `ValueError` for a file that is another search's, or none, or in use; `OSError` for one that
        cannot be written.
        """
        if self.file is not None:
            # Neither cut before it is locked, nor buffered: a disk may be full.
            opened = os.open(self.file, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            self._stream = os.fdopen(opened, "r+b", buffering=0)
            try:
                _lock(self._stream, self.file)
                self._begin(self._stream, self.file)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *raised: Any) -> None:
        """Close the file, which stays."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def once(self, what: str, make: Callable[[], Tensors]) -> Tensors:
        """Return a measurement as it is noted, or make it and note it.

        Args:
            what: names it; at its place it has the same name whenever the search is run.
            make: returns tensors by name.

        Raises `ValueError` if something else is noted there, `OSError` if there is no room for it.
        """
        if self._stream is None:
            return make()
        record = _next(self._stream)
        if record is None:
            start = time.perf_counter()
            made = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
            seconds = torch.tensor(time.perf_counter() - start, dtype=torch.float64)
            self._append(self._stream, what, {**made, SECONDS: seconds})
            return made
        found, tensors = record
        if found != what:
            raise ValueError(
                f"{self.file} notes {found[:SHOWN]!r} where this search measures {what[:SHOWN]!r}: it is of "
                "other prompts, calibration or versions. Name another file, or remove this one"
            )
        self.seconds += tensors.pop(SECONDS).item()
        return tensors

    def check(self, what: str, make: Callable[[], torch.Tensor]) -> None:
        """Note a value that is cheap to measure, and measure it again where it is noted.

        What an identity does not name (adapters, a model's own settings, functions) shows in such values.

        Raises `ValueError` if it is not as it was.
        """
        if self._stream is None:
            return
        value = make().detach().cpu()
        noted = self.once(what, lambda: {"value": value})["value"]
        if noted.shape != value.shape or not _is_close(value, noted):
            raise ValueError(
                f"{self.file} is the journal of another search: {what} is not what it was. Prompts, "
                "calibration, model, adapters or a function of the config have changed: name another file"
            )

    def _begin(self, stream: BinaryIO, file: Path) -> None:
        """Compare whose notes they are, or write it into a file that holds nothing yet."""
        line = _read(stream, len(FIRST_LINE))
        if not FIRST_LINE.startswith(line):
            raise ValueError(f"{file} is no journal of a search: name another file")
        if line != FIRST_LINE:  # new, or its process was killed at once
            stream.seek(0)
            _write(stream, FIRST_LINE)
        noted = _next(stream)
        if noted is None:
            self._append(stream, json.dumps(self._identity), {})
            return
        known: dict[str, str] = json.loads(noted[0])
        changed = {
            name: (known.get(name, "nothing"), self._identity.get(name, "nothing"))
            for name in {**known, **self._identity}
            if known.get(name) != self._identity.get(name)
        }
        if changed:
            changes = "; ".join(
                f"{name} is {there[:SHOWN]} there and {here[:SHOWN]} here"
                for name, (there, here) in changed.items()
            )
            raise ValueError(f"{file} is the journal of another search ({changes}): name another file")

    def _append(self, stream: BinaryIO, what: str, tensors: Tensors) -> None:
        """Append a record and wait until it is on the disk; leave the file as it was if that fails."""
        start = stream.tell()
        name = torch.frombuffer(bytearray(what.encode()), dtype=torch.uint8)
        text = save({**tensors, WHAT: name})
        try:
            _write(stream, len(text).to_bytes(LENGTH, "little") + hashlib.sha256(text).digest() + text)
            os.fsync(stream.fileno())
        except OSError as error:
            stream.seek(start)
            stream.truncate()
            hint = "what was found so far is kept, and the same call with this journal goes on from there"
            raise OSError(error.errno, f"{error.strerror}: {hint}", str(self.file)) from error


NO_JOURNAL = Journal()


def fingerprint(values: Iterable[torch.Tensor]) -> str:
    """Return a digest of the shapes, dtypes and bytes of tensors; without storage they have no bytes."""
    made = hashlib.sha256()
    for value in values:
        made.update(f"{tuple(value.shape)} {value.dtype}".encode())
        if not value.is_meta:
            made.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return made.hexdigest()[:32]


def _is_close(value: torch.Tensor, noted: torch.Tensor) -> bool:
    """Tell whether a value is as it was noted, NaN and infinities too: of those somebody else complains."""
    margin = CLOSE * float(noted.nan_to_num(0, 0, 0).abs().max())
    alike = (value == noted) | (value.isnan() & noted.isnan())
    return bool((alike | ((value - noted).abs() <= margin)).all())


def _next(stream: BinaryIO) -> tuple[str, Tensors] | None:
    """Return what the next record notes; cut off what is half written at the end, and return nothing.

    Raises `ValueError` for a damaged record that others follow.
    """
    start = stream.tell()
    head = _read(stream, LENGTH + DIGEST)
    size, left = int.from_bytes(head[:LENGTH], "little"), os.fstat(stream.fileno()).st_size - stream.tell()
    whole = len(head) == LENGTH + DIGEST and size <= left
    text = _read(stream, size) if whole else b""
    if not whole or hashlib.sha256(text).digest() != head[LENGTH:]:
        if whole and size < left:
            raise ValueError(f"a journal is damaged from byte {start} on: name another file, or remove it")
        stream.seek(start)
        stream.truncate()
        return None
    try:
        tensors = load(text)
    except SafetensorError as error:
        raise ValueError(f"a journal holds a record that is none ({error}): name another file") from error
    return bytes(tensors.pop(WHAT).tolist()).decode(), tensors


def _lock(stream: BinaryIO, file: Path) -> None:
    """Keep a file for this process alone, where the system can."""
    if fcntl is None:
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(f"{file} is the journal of a search that is running: name another file") from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        logger.warning("%s cannot be locked here: let no other search write it", file)


def _read(stream: BinaryIO, size: int) -> bytes:
    """Read so many bytes, or all that there are; the system reads 2 GiB at once at most."""
    parts = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write(stream: BinaryIO, content: bytes) -> None:
    """Write all bytes; the system writes as many as there is room for."""
    left = memoryview(content)
    while left:
        left = left[stream.write(left) :]
