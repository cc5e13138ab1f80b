"""The data files that come with the library: where they are, what they must hold, how they are read."""

import functools
import hashlib
import io
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

FILES = Path(__file__).parent / "files"

# SHA-256 of what each file holds (see `checksum`). The content is what counts: another release of zlib or xz may
# write the same content in other bytes.
CONTENT = {
    "digits": ("digits.npz", "1e31ad8456cf1e7181cba6dc351cc6054686dfbc1416813edcba824745844ff2"),
    "fashion": ("fashion.npz", "08908568b2ecc6f7778180bc10cd0d5c2b6f59d615883c3a3bc76a99d13465c4"),
    "text": ("austen.txt.xz", "f30933e0d4913bc238f1ce0e6b9d94724208f73eef4aa2bd69ec45f23ecdecb9"),
    "french": ("cahier_fr.txt.xz", "2c35f548ecfbf8a627e89e563772e18e11b3bdae4f97d43c3840aba97062b8a7"),
    "spoken_digits": (
        "spoken_digits.npz",
        "263b572d612ed7a0d9efa47a8c977998eadadac7d64e064fa3052ef66621461f",
    ),
    "prompts": ("prompts_en.npz", "17b7e56d385f6e5bb78e038880619032082c71a31ed6724ad967ef5871769b03"),
}


def checksum(content: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of named arrays: of their names, types, shapes and values, in the order of their names.

    >>> checksum({"a": np.zeros(2, np.uint8)})[:8]
    '3598b269'
    """
    digest = hashlib.sha256()
    for name in sorted(content):
        array = np.ascontiguousarray(content[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def read(path: Path) -> dict[str, np.ndarray]:
    """Named arrays of a data file, whatever they are: those of an ``.npz``, or ``text`` (UTF-8 bytes) of an ``.xz``.

    Nothing is unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that cannot be decoded.

    >>> sorted(read(FILES / "digits.npz"))
    ['images', 'labels']
    """
    try:
        packed = path.read_bytes()
        if path.suffix == ".xz":
            return {"text": np.frombuffer(lzma.decompress(packed), np.uint8)}
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{path.name} cannot be decoded: {error}") from error


@functools.cache
def load(name: str, folder: Path) -> dict[str, np.ndarray]:
    """What a bundled file holds, once its content has been checked; read once per process.

    Args:
        name: of the data, a key of ``CONTENT``.
        folder: where the file lies.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be decoded, or holds something else.

    >>> load("digits", FILES)["images"].shape
    (10000, 28, 28)
    """
    file, expected = CONTENT[name]
    where = f"ebm_lib/data/files/{file}"
    restore = f"restore it by installing ebm_lib again, or by `python training/build_data.py {name}` in the source tree"
    try:
        content = read(folder / file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{where} is missing: {restore}") from None
    except ValueError as error:
        raise ValueError(f"{where} is altered, {error}; expected content with SHA-256 {expected}: {restore}") from error
    if (found := checksum(content)) != expected:
        raise ValueError(f"{where} is altered: expected content with SHA-256 {expected}, found {found}: {restore}")
    for array in content.values():
        array.setflags(write=False)  # it stays in the cache for the next caller
    return content
