"""Fuzz the readers, guided by coverage: python tests/fuzz_atheris.py CORPUS -max_total_time=600 (and libFuzzer's other
options). Needs `pip install atheris` (Linux, Python 3.11) beside the packages of requirements-dev.txt."""

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
with atheris.instrument_imports(include=["mova"]):
    import fuzz_readers
    from fuzz_readers import HEADER, TARGETS, check, json, struct


def seeds(corpus: Path) -> None:
    """Something valid, and some changes, for each target to start from."""
    text = json.dumps(HEADER).encode()
    plain = {"raw_header": struct.pack("<Q", len(text)) + text + bytes(12), "framed_header": text, "raw_json": text}
    plain["raw_metadata"] = json.dumps(fuzz_readers.PARTS).encode()
    for number, target in enumerate(TARGETS):
        for change in range(8):
            data = plain.get(target.__name__, bytes((change * 37 + i * 91) % 256 for i in range(change * 6)))
            (corpus / f"seed-{number}-{change}").write_bytes(bytes([number]) + data)


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:

        def one(data: bytes) -> None:
            if data:
                target = TARGETS[data[0] % len(TARGETS)]
                check(target, data[1:], Path(folder))

        corpus = next((Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")), None)
        if corpus:
            corpus.mkdir(parents=True, exist_ok=True)
            seeds(corpus)
        atheris.Setup(sys.argv, one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
