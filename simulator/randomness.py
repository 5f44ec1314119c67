"""Named random streams: what one part draws never changes what another part draws."""

from hashlib import blake2b

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Generator of its own for `names` under `seed`; the same names give the same numbers for ever."""
    key = "\x1f".join(map(str, (seed, *names))).encode()
    return np.random.Generator(np.random.PCG64(int.from_bytes(blake2b(key, digest_size=16).digest(), "big")))
