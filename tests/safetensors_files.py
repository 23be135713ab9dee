"""Safetensors files written byte by byte, whole or not."""

import json
import struct


def framed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


VALID = framed({"__metadata__": {"format": "pt"}, "a": entry(), "b": entry("BF16", (2, 1), (8, 12))}, bytes(range(12)))
HEADER_END = 8 + struct.unpack("<Q", VALID[:8])[0]
