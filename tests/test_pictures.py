"""Pictures that people give."""

import struct
import zlib

import pytest
from PIL import Image
from sentences import refusal

from mova.clip import reading

# Pictures


def test_a_picture_is_read_as_rgb(tmp_path):
    Image.new("RGB", (5, 3), (10, 20, 30)).save(tmp_path / "a.png")
    image = reading.read_image(tmp_path / "a.png")
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (5, 3), (10, 20, 30))


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    image = Image.new("RGB", (40, 20), "blue")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    image.paste("red", (0, 0, 20, 20))
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    turned = reading.read_image(tmp_path / "a.jpg")
    assert turned.size == (20, 40)
    assert turned.getpixel((10, 5))[0] > 200 and turned.getpixel((10, 35))[2] > 200


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_composed_on_white(tmp_path, mode):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.convert(mode).save(tmp_path / "a.png")
    read = reading.read_image(tmp_path / "a.png")
    assert read.getpixel((0, 0)) == (255, 255, 255) and read.getpixel((1, 0)) == (0, 0, 0)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    image = Image.new("I;16", (1, 1))
    image.putpixel((0, 0), 0x8000)
    image.save(tmp_path / "a.png")
    assert reading.read_image(tmp_path / "a.png").getpixel((0, 0)) == (128, 128, 128)


def test_a_missing_picture_is_named(tmp_path):
    assert f"{tmp_path / 'no.png'} does not exist" in refusal(reading.read_image, tmp_path / "no.png")


def test_a_folder_given_as_picture_is_named(tmp_path):
    assert f"{tmp_path} is a folder" in refusal(reading.read_image, tmp_path)


def test_a_picture_name_too_long_for_the_disk_is_a_missing_picture(tmp_path):
    assert "does not exist" in refusal(reading.read_image, tmp_path / ("x" * 300))


def test_a_text_file_given_as_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_text("not a picture")
    assert f"{tmp_path / 'a.png'} is not a picture" in refusal(reading.read_image, tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_truncated_picture_is_named(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"{path} is damaged or cut off" in refusal(reading.read_image, path)


def test_a_decompression_bomb_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 30000, 30000)  # width and height in the header, whose checksum follows
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    assert f"{path} has too many pixels" in refusal(reading.read_image, path)
