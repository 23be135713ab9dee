"""The picture of a workflow among ComfyUI's templates: what goes into it, and what comes out."""

from PIL import Image, ImageDraw, ImageFont

from .zh import ENGLISH, TITLES

SIDE = 512
BACK, FRONT, BOX, ACCENT = "#1d2430", "#f2f4f8", "#2f3b4d", "#f0a43a"
ICON = 104  # width and height of an icon

# Title; what goes in; what stands below the model; what comes out.
CARDS = {
    "mova_1_image_to_video_with_sound": ("Image to\nvideo + sound", ["picture", "text"], "", ["film", "sound"]),
    "mova_2_text_to_video_with_sound": ("Text to\nvideo + sound", ["text"], "", ["film", "sound"]),
    "mova_3_first_and_last_frame_with_sound": (
        "First and\nlast frame",
        ["picture", "picture", "text"],
        "",
        ["film", "sound"],
    ),
    "mova_4_foley_sound_for_a_video": ("Foley: sound\nfor a video", ["film", "text"], "", ["sound"]),
    "mova_5_talking_video_for_a_sound": ("Talking: video\nfor a sound", ["sound", "picture", "text"], "", ["film"]),
    "mova_6_low_memory": ("Low\nmemory", ["picture", "text"], "fp8, tiles", ["film", "sound"]),
    "mova_7_lora": ("With\na LoRA", ["picture", "text"], "+ LoRA", ["film", "sound"]),
    "mova_8_advanced_two_samplers": ("Advanced:\ntwo samplers", ["picture", "text"], "high | low", ["film", "sound"]),
    "mova_9_text_to_picture_to_clip": ("Text to picture\nto clip", ["text", "picture"], "", ["film", "sound"]),
    "mova_10_train_a_lora": ("Train\na LoRA", ["film", "sound", "text"], "LoRA", ["film", "sound"]),
    "mova_11_fast": ("Fast:\n8 steps", ["picture", "text"], "+ LoRAs", ["film", "sound"]),
    "mova_12_two_stages": ("Two stages:\n360p, 720p", ["picture", "text"], "small | large", ["film", "sound"]),
}


def draw(name: str) -> Image.Image:
    """The card of a workflow, 512 x 512; its upper left corner is free, where ComfyUI's page writes the pack's name."""
    chinese = name not in CARDS
    name = ENGLISH.get(name, name)
    title, given, below, made = CARDS[name]
    title = TITLES[name] if chinese else title
    card = Image.new("RGB", (SIDE, SIDE), BACK)
    pen = ImageDraw.Draw(card)
    pen.multiline_text((SIDE / 2, 80), title, FRONT, font(46, chinese), "ma", align="center", spacing=8)
    middle = 352
    column(pen, 24, middle, given)
    column(pen, SIDE - 24 - ICON, middle, made)
    pen.rounded_rectangle((186, middle - 60, 326, middle + 60), 16, ACCENT)
    pen.text((256, middle), "MOVA", BACK, font(42), "mm")
    pen.text((256, middle + 66), below, FRONT, font(28), "ma")
    for x in (142, 340):
        pen.line((x, middle, x + 24, middle), FRONT, 6)
        pen.polygon([(x + 20, middle - 13), (x + 20, middle + 13), (x + 38, middle)], FRONT)
    return card


def font(size: int, chinese: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Raises OSError where there is no font with Chinese letters (Debian: fonts-noto-cjk)."""
    return ImageFont.truetype("NotoSansCJK-Regular.ttc", size, index=2) if chinese else ImageFont.load_default(size)


def column(pen: ImageDraw.ImageDraw, x: int, middle: int, icons: list[str]) -> None:
    """Icons below each other around a height; three of them a little flatter."""
    height = 96 if len(icons) == 3 else ICON
    top = middle - (len(icons) * (height + 12) - 12) // 2
    for index, icon in enumerate(icons):
        y = top + index * (height + 12)
        pen.rounded_rectangle((x, y, x + ICON, y + height), 12, BOX)
        ICONS[icon](pen, x + 16, y + (height - 72) // 2)


# Each draws into 72 x 72 pixels.


def picture(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.rectangle((x, y + 6, x + 72, y + 66), outline=FRONT, width=5)
    pen.ellipse((x + 44, y + 16, x + 58, y + 30), ACCENT)
    pen.polygon([(x + 8, y + 60), (x + 28, y + 28), (x + 42, y + 48), (x + 50, y + 38), (x + 64, y + 60)], FRONT)


def text(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    for row, length in enumerate((72, 60, 72, 40)):
        pen.line((x, y + 11 + 17 * row, x + length, y + 11 + 17 * row), FRONT, 7)


def film(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.rectangle((x, y + 6, x + 72, y + 66), FRONT)
    for hole in range(5):
        for row in (y + 11, y + 53):
            pen.rectangle((x + 5 + 14 * hole, row, x + 11 + 14 * hole, row + 8), BOX)
    pen.polygon([(x + 28, y + 24), (x + 28, y + 48), (x + 50, y + 36)], ACCENT)


def sound(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    for bar, height in enumerate((18, 44, 68, 30, 56, 22)):
        pen.line((x + 6 + 12 * bar, y + 36 - height // 2, x + 6 + 12 * bar, y + 36 + height // 2), FRONT, 7)


ICONS = {"picture": picture, "text": text, "film": film, "sound": sound}
