"""What the page shows of a message: two lines of it on a node. So it begins with what to do, and files are named as in
the page's lists, without the folders they are in."""

import os
from pathlib import Path

import folder_paths


def remedy_first(sentence: str) -> str:
    """A MovaError's sentence ("What is wrong; what to do.") the other way round ("What to do: What is wrong.")."""
    what, semicolon, remedy = sentence.removesuffix(".").rpartition("; ")
    return f"{remedy[0].upper()}{remedy[1:]}: {what}." if semicolon else sentence


def short_paths(text: str) -> str:
    """A text in which files of the host's model folders are named as in its lists, others of its from "output/" on."""
    lists = [root for roots, _ in folder_paths.folder_names_and_paths.values() for root in roots]
    own = (folder_paths.get_output_directory(), folder_paths.get_input_directory(), folder_paths.get_temp_directory())
    places = {*map(str, lists), *(str(Path(root).parent) for root in own)}
    for place in sorted(places, key=len, reverse=True):
        if len(place) > 1:  # not "/"
            text = text.replace(place.rstrip(os.sep) + os.sep, "")
    return text
