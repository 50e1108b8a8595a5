"""The GGUF container (versions 2 and 3, little-endian): key-value pairs, then tensor descriptions, then tensor data.

Read here with `struct`: the `gguf` package's own reader takes seconds for a vocabulary; its dequantisers are used.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class TensorEntry:
    shape: tuple[int, ...]
    """In the usual order: rows first (the file stores the fastest dimension first)."""
    kind: GGMLQuantizationType
    offset: int
    """Bytes from the start of the file."""

    @property
    def nbytes(self) -> int:
        block_values, block_bytes = GGML_QUANT_SIZES[self.kind]
        return int(np.prod(self.shape, dtype=np.int64)) // block_values * block_bytes


class GGUFFile:
    """Metadata and tensors of one file. Raises FileNotFoundError, or ValueError where the file is damaged."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file; expected a GGUF model")
        self.path = path
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ValueError(f"{path} is not a GGUF file: it does not begin with 'GGUF'")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._place = 4
        try:
            self._read_header()
        except (struct.error, UnicodeDecodeError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is damaged or cut short at byte {self._place}: {error}") from error

    def values(self, name: str) -> np.ndarray:
        """One tensor as fp32, dequantised."""
        entry = self.tensors[name]
        raw = np.frombuffer(self._bytes, np.uint8, entry.nbytes, entry.offset)
        block_values, block_bytes = GGML_QUANT_SIZES[entry.kind]
        rows = raw.reshape(-1, entry.shape[-1] // block_values * block_bytes)
        if entry.kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
            rows = rows.view(np.float32 if entry.kind == GGMLQuantizationType.F32 else np.float16)
        return dequantize(rows, entry.kind).reshape(entry.shape).astype(np.float32)

    def _read_header(self) -> None:
        version, num_tensors, num_pairs = self._take("I"), self._take("Q"), self._take("Q")
        if version not in (2, 3):
            raise ValueError(f"GGUF version {version}; expected 2 or 3")
        self.metadata: dict[str, Any] = {}
        for _ in range(num_pairs):
            key = self._take_string()
            self.metadata[key] = self._take_value(self._take("I"))
        entries = [self._take_entry() for _ in range(num_tensors)]
        alignment = self.metadata.get("general.alignment", 32)
        start = -(-self._place // alignment) * alignment
        self.tensors = {name: TensorEntry(shape, kind, start + offset) for name, shape, kind, offset in entries}
        end = max((entry.offset + entry.nbytes for entry in self.tensors.values()), default=start)
        if end > len(self._bytes):
            raise ValueError(f"its tensors end at byte {end}, the file at {len(self._bytes)}")

    def _take(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self._bytes, self._place)
        self._place += struct.calcsize("<" + code)
        return value

    def _take_string(self) -> str:
        length = self._take("Q")
        text = self._bytes[self._place : self._place + length]
        if len(text) < length:
            raise ValueError(f"a text of {length} bytes reaches beyond the end")
        self._place += length
        return text.decode("utf-8")

    def _take_value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._take_string()
        if kind != _ARRAY:
            return self._take(_SCALARS[kind])
        of, length = self._take("I"), self._take("Q")
        if of in (_STRING, _ARRAY):
            return [self._take_value(of) for _ in range(length)]
        values = struct.unpack_from(f"<{length}{_SCALARS[of]}", self._bytes, self._place)
        self._place += struct.calcsize(f"<{length}{_SCALARS[of]}")
        return list(values)

    def _take_entry(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name, num_dims = self._take_string(), self._take("I")
        sizes = [self._take("Q") for _ in range(num_dims)]
        return name, tuple(reversed(sizes)), GGMLQuantizationType(self._take("I")), self._take("Q")
