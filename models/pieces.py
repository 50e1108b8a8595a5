"""Documents cut into pieces that a model can read, made when a step asks for them.

    document   t0 t1 t2 t3 t4 t5 t6        limit 3
    pieces     t0 t1 t2 t3                 reads t0 t1 t2, learns t1 t2 t3
                        t3 t4 t5 t6        reads t3 t4 t5, learns t4 t5 t6

Each piece begins with the token that ended the one before, so that all tokens but a document's first are trained
exactly once.
"""

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from models.packing import Document
from models.token_shards import TokenShards


class Pieces(Sequence[Document]):
    """All pieces of all documents in order. A document of a single token has none: nothing predicts it."""

    def __init__(self, shards: TokenShards, limit: int) -> None:
        """`limit`: most tokens that a piece reads."""
        if limit < 1:
            raise ValueError(f"pieces of {limit} tokens; expected at least 1")
        self.shards = shards
        self.limit = limit
        read = np.maximum(shards.lengths - 1, 0)
        counts = -(-read // limit)
        self._first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        self.lengths: NDArray[np.int32] = np.full(len(self), limit, np.int32)
        """Tokens that each piece reads, which is also how many it trains."""
        whole = counts > 0
        self.lengths[self._first[1:][whole] - 1] = (read - (counts - 1) * limit)[whole]
        self.source_of: NDArray[np.int32] = np.repeat(shards.source_of, counts)
        """Place among the shards' sources of each piece's."""

    def __len__(self) -> int:
        return int(self._first[-1])

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"piece {index} of {len(self)}")
        document = int(np.searchsorted(self._first, place, side="right")) - 1
        start = (place - int(self._first[document])) * self.limit
        return Document.of(self.shards.tokens(document)[start : start + self.limit + 1].tolist())
