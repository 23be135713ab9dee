"""enhance: from a short prompt to a full one; and the same as a part of generate."""

import argparse
import gc
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..arguments import Defaults, whole
from ..enhance import GOALS, LANGUAGES, STYLES, Enhanced, Task
from ..errors import MovaError
from ..progress import quiet_libraries, tell

UNSEEN = "The language model takes no pictures: it writes without seeing them."
LARGEST = 1024  # pixels of a side of a picture that is sent


def add_to(commands: Any) -> None:
    """The command and its options."""
    enhance = commands.add_parser("enhance", help="make a full prompt of a short one", formatter_class=Defaults)
    enhance.set_defaults(run=run_enhance)
    add = enhance.add_argument
    add("prompt", help="what should be seen and heard; spoken words in quotation marks")
    add("--image", type=Path, help="first frame")
    add("--end-image", type=Path, help="last frame")
    add("--goal", choices=GOALS, default=GOALS[0], help="what the prompt is for")
    add_writer_options(add)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps; for a folder")
    add("--dtype", choices=("bf16", "fp16", "fp32"), default="bf16", help="to compute in; for a folder")


def add_writer_options(add: Callable[..., Any]) -> None:
    """Who writes, and how: the same for both commands."""
    from ..enhance.url import EXAMPLE, KEY

    add("--enhance", type=Path, metavar="FOLDER", help="a language model's folder, as transformers reads it")
    url_help = f"or an OpenAI-compatible address, such as {EXAMPLE}; the key, if it needs one, in {KEY}"
    add("--enhance-url", metavar="URL", help=url_help)
    add("--enhance-model", metavar="NAME", help="which model at that address (the first it lists if not given)")
    add("--enhance-style", choices=tuple(STYLES), default=next(iter(STYLES)), help="how it should look")
    add("--enhance-language", choices=LANGUAGES, default=LANGUAGES[0], help="of the description; quotes stay")
    add("--enhance-seed", type=whole, default=0, help="of the wording")
    add("--enhance-temperature", type=float, default=0.7, help="how freely it words; 0: the likeliest word always")
    add("--enhance-length", type=whole, default=2048, help="tokens the model may write, thoughts included")


def run_enhance(options: argparse.Namespace) -> None:
    """Print the prompt alone; notices go to the other stream."""
    from ..clip import reading, runtime

    quiet_libraries()
    if not wanted(options):
        raise MovaError("There is no language model; name a folder with --enhance or an address with --enhance-url.")
    pictures = {
        name: reading.read_image(path) if path else None
        for name, path in (("first", options.image), ("last", options.end_image))
    }
    device, dtype = runtime.device_and_dtype(options.device, options.dtype) if options.enhance else (None, None)
    made = write(options, options.prompt, pictures, options.goal, device, dtype)
    print(made.prompt)


def wanted(options: argparse.Namespace) -> bool:
    """Whether a language model is named. Raises MovaError for two, or for settings out of range."""
    if options.enhance and options.enhance_url:
        raise MovaError("Both --enhance and --enhance-url are given; give one of them.")
    if options.enhance_model and not options.enhance_url:
        raise MovaError("--enhance-model names a model at an address; give --enhance-url with it.")
    if not 0 <= options.enhance_temperature <= 5:
        raise MovaError(f"The temperature is {options.enhance_temperature}; it must be from 0 to 5.")
    if not 0 <= options.enhance_seed < 2**63:
        raise MovaError(f"The seed of the wording is {options.enhance_seed}; it must be from 0 to 2^63 - 1.")
    if not 1 <= options.enhance_length <= 100_000:
        raise MovaError(f"The length of an answer is {options.enhance_length}; it must be from 1 to 100000 tokens.")
    return bool(options.enhance or options.enhance_url)


def write(
    options: argparse.Namespace,
    prompt: str,
    pictures: dict[str, Any],
    goal: str,
    device: Any,
    dtype: Any,
    count: Callable[[str], int] | None = None,
) -> Enhanced:
    """What the language model makes of the prompt. It is loaded here, and gone when this returns."""
    from ..enhance import enhance
    from ..enhance.length import tokens
    from ..enhance.url import PicturesRefused, Remote

    task = Task(
        prompt,
        pictures["first"] is not None,
        pictures["last"] is not None,
        options.enhance_style,
        options.enhance_language,
        goal,
    )
    task.check()
    images = [picture for picture in pictures.values() if picture is not None]
    how = (options.enhance_seed, options.enhance_temperature, options.enhance_length)
    model: Any
    if options.enhance_url:
        model = Remote(options.enhance_url, options.enhance_model, [jpeg(image) for image in images], *how)
        sees = bool(images)
    else:
        from ..enhance.local import Local

        model = Local(options.enhance, images, *how, device, dtype)
        sees = model.sees
    if images and not sees:
        tell(UNSEEN)
    try:
        made = enhance(task, model, count or tokens, sees)
    except PicturesRefused as error:
        tell(f"{error} It is asked once more without the pictures.")
        model.pictures = []
        made = enhance(task, model, count or tokens, False)
    del model
    gc.collect()
    for notice in made.notices:
        tell(notice)
    return made


def jpeg(image: Any) -> bytes:
    """A picture as a file, no larger than a model looks at."""
    image = image.convert("RGB")
    image.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
