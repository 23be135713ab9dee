"""Files as the page's lists call them: of a whole path there, little else would be seen of a message."""

import os
from pathlib import Path

import folder_paths


def short_paths(text: str) -> str:
    """A text in which files of the host's model folders are named as in its lists, others of its from "output/" on."""
    lists = [root for roots, _ in folder_paths.folder_names_and_paths.values() for root in roots]
    own = (folder_paths.get_output_directory(), folder_paths.get_input_directory(), folder_paths.get_temp_directory())
    places = {*map(str, lists), *(str(Path(root).parent) for root in own)}
    for place in sorted(places, key=len, reverse=True):
        if len(place) > 1:  # not "/"
            text = text.replace(place.rstrip(os.sep) + os.sep, "")
    return text
