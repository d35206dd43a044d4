"""The coin that mirrors a sample, for all samples of an epoch at once.

`clef.data.transforms.draw_augmentation` makes a NumPy generator for each sample, in some ten microseconds. A cell that
trains on kept features needs nothing else of it, and takes not much longer for a whole step. So the first number of
each generator is computed here for many indices at once, bit by bit as NumPy does (`SeedSequence` and `PCG64`).
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

_INIT_A, _MULT_A, _INIT_B, _MULT_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
_MIX_LEFT, _MIX_RIGHT, _SHIFT, _POOL = np.uint32(0xCA01F9DD), np.uint32(0x4973F715), np.uint32(16), 4
"""The constants of NumPy's SeedSequence (O'Neill's seed_seq_fe)."""
_PCG = 0x2360ED051FC65DA44385DF649FCCF645
"""The multiplier of PCG64."""
_MASK = 0xFFFFFFFF
Words = npt.NDArray[np.uint32]
Wide = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]
"""128-bit numbers: the upper and the lower 64 bits."""


@lru_cache(maxsize=512)  # the cells that a process trains one after the other often have the same seeds
def mirrored(seed: int, epoch: int, samples: int) -> np.ndarray:
    """Return which of the samples 0..samples-1 are mirrored in an epoch, where they flip: N bool."""
    return _first_halves(seed, epoch, np.arange(samples, dtype=np.uint64))


def _first_halves(seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """Return of each index whether `default_rng([seed, epoch, index]).random()` is below one half."""
    with np.errstate(over="ignore"):  # all of it is arithmetic modulo a power of two
        words = _generate_words(_mix_entropy(seed, epoch, indices))
        high, low, sequence_high, sequence_low = (words[2 * i] | words[2 * i + 1] << np.uint64(32) for i in range(4))
        increment = (
            sequence_high << np.uint64(1) | sequence_low >> np.uint64(63),
            sequence_low << np.uint64(1) | np.uint64(1),
        )
        state = _step(_add(increment, (high, low)), increment)  # as pcg64_srandom leaves it
        high, low = _step(state, increment)
        value, turn = high ^ low, high >> np.uint64(58)
        rotated = value >> turn | value << (-turn & np.uint64(63))
    return rotated >> np.uint64(63) == 0


def _mix_entropy(seed: int, epoch: int, indices: np.ndarray) -> list[Words]:
    """Return SeedSequence's pool of four words, uint32, for the entropy [seed, epoch, index]."""
    entropy = [np.full(len(indices), word, np.uint32) for number in (seed, epoch) for word in _words(number)]
    entropy.append(indices.astype(np.uint32))  # no split has more than 2**32 samples
    entropy += [np.zeros(len(indices), np.uint32)] * (_POOL - len(entropy))
    constant = _INIT_A

    def hashed(value: Words) -> Words:
        nonlocal constant
        value = value ^ np.uint32(constant)
        constant = constant * _MULT_A & _MASK
        value = value * np.uint32(constant)
        return value ^ value >> _SHIFT

    def mixed(x: Words, y: Words) -> Words:
        result = _MIX_LEFT * x - _MIX_RIGHT * y
        return result ^ result >> _SHIFT

    pool = [hashed(word) for word in entropy[:_POOL]]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                pool[target] = mixed(pool[target], hashed(pool[source]))
    for word in entropy[_POOL:]:
        pool = [mixed(value, hashed(word)) for value in pool]
    return pool


def _generate_words(pool: list[Words]) -> list[npt.NDArray[np.uint64]]:
    """Return the eight words that seed PCG64, each uint64 though below 2**32."""
    words, constant = list[npt.NDArray[np.uint64]](), _INIT_B
    for i in range(8):
        value = pool[i % _POOL] ^ np.uint32(constant)
        constant = constant * _MULT_B & _MASK
        value = value * np.uint32(constant)
        words.append((value ^ value >> _SHIFT).astype(np.uint64))
    # generate_state(4, uint64) gives the state's upper and lower half, then the sequence's.
    return words


def _words(number: int) -> list[int]:
    """Return a number's words of 32 bits, the lowest first; 0 has one."""
    words = [number & _MASK]
    while number := number >> 32:
        words.append(number & _MASK)
    return words


def _add(x: Wide, y: Wide) -> Wide:
    low = x[1] + y[1]
    return x[0] + y[0] + (low < x[1]), low


def _step(state: Wide, increment: Wide) -> Wide:
    """Return state * multiplier + increment, modulo 2**128."""
    high, low = state
    factor_high, factor_low = np.uint64(_PCG >> 64), np.uint64(_PCG & (1 << 64) - 1)
    product = _upper_half(low, int(factor_low)) + high * factor_low + low * factor_high, low * factor_low
    return _add(product, increment)


def _upper_half(x: npt.NDArray[np.uint64], factor: int) -> npt.NDArray[np.uint64]:
    """Return the upper 64 bits of x * factor, both below 2**64."""
    mask, half = np.uint64(_MASK), np.uint64(32)
    a, b, c, d = x >> half, x & mask, np.uint64(factor >> 32), np.uint64(factor & _MASK)
    middle = b * c + (b * d >> half)  # at most 2**64 - 2**32
    other = a * d + (middle & mask)
    return a * c + (middle >> half) + (other >> half)
