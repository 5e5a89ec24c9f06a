import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fovsfe.bundle.format import Bundle, write_bundle
from fovsfe.bundle.predictor import BATCH, Predictor
from fovsfe.errors import FovsfeError
from fovsfe.photos.dataset import ResizedPhotos
from fovsfe.photos.decode import MAX_PIXELS, BadPhoto, decode, decode_to_size, resize_photo


@pytest.fixture(scope="module")
def predictor(made: Any) -> Predictor:
    return Predictor(made.folder, threads=1)


def test_pixels_are_trainings_to_the_bit(predictor: Predictor, made: Any) -> None:
    for photo in made.photos:
        small, wide = predictor.prepare(photo)
        np.testing.assert_array_equal(small, decode_to_size(photo, (48, 48), "pad"))
        np.testing.assert_array_equal(wide, decode_to_size(photo, (64, 96), "pad"))


def _encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    scene = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(scene).resize((301, 197), Image.Resampling.BICUBIC)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    elif mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    else:
        picture = picture.convert(mode)
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


FILES = {
    "jpg": _encoded("JPEG"),
    "progressive jpg": _encoded("JPEG", progressive=True),
    "CMYK jpg": _encoded("JPEG", "CMYK"),
    "grey jpg": _encoded("JPEG", "L"),
    **{f"jpg turned {turn}": _encoded("JPEG", exif=_turned(turn)) for turn in range(2, 9)},
    "png": _encoded("PNG"),
    "palette png": _encoded("PNG", "P"),
    "alpha png": _encoded("PNG", "RGBA"),
    "16-bit png": _encoded("PNG", "I;16"),
    "1-bit png": _encoded("PNG", "1"),
    "webp": _encoded("WEBP"),
    "alpha webp": _encoded("WEBP", "RGBA"),
    "gif": _encoded("GIF"),
    "bmp": _encoded("BMP"),
    "tiff": _encoded("TIFF", compression="tiff_lzw"),
    "CMYK tiff": _encoded("TIFF", "CMYK"),
    "avif": _encoded("AVIF"),
    "heic": _encoded("HEIF"),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_validation_in_training(predictor: Predictor, tmp_path: Path, name: str) -> None:
    """To the bit, for every kind of file: from a folder by way of the cache, and from a request's bytes."""
    (tmp_path / "photo").write_bytes(FILES[name])
    for member, served in zip(predictor.bundle.members, predictor.prepare(FILES[name]), strict=True):
        photos = ResizedPhotos(tmp_path, ["photo"], member.size, member.resize_mode, MAX_PIXELS)
        cached = photos.cached(tmp_path / f"{member.name}.bin", 1e9, lambda done, of: None)
        assert cached.cache is not None
        np.testing.assert_array_equal(served, cached[0])
        assert served.std() > 5


def test_members_of_one_size_share_the_pixels(bundle: Path, made: Any) -> None:
    file = bundle / "bundle.json"
    raw = json.loads(file.read_text())
    raw["members"][1] |= {"size": [48, 48]}
    file.write_text(json.dumps(raw))
    first, second = Predictor(bundle).prepare(made.photos[0])
    assert first is second


def test_a_prediction(predictor: Predictor, made: Any) -> None:
    predictions = predictor.predict(made.photos)
    assert len(predictions) == len(made.photos)
    for prediction in predictions:
        assert prediction.probabilities.shape == (3,)
        assert prediction.probabilities.dtype == np.float64
        np.testing.assert_allclose(prediction.probabilities.sum(), 1)
        assert prediction.known  # without a rule for strangers
        assert prediction.cams[0] is None  # its head is not linear
        assert prediction.cams[1].shape == (2, 3, 3)


def test_no_photos(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_members_are_means_over_networks_and_views(predictor: Predictor, made: Any) -> None:
    photos = [predictor.prepare(photo) for photo in made.photos]
    plain, flip = (predictor.member_probabilities(photos, (name,)) for name in ("plain", "flip"))
    both = predictor.member_probabilities(photos, ("plain", "flip"))
    assert both.shape == (2, len(photos), 3)
    np.testing.assert_allclose(both, (plain + flip) / 2, atol=1e-12)
    blended = made.blend.apply(both)
    np.testing.assert_allclose(
        blended, [a.probabilities for a in predictor.predict_inputs(photos)], atol=1e-12
    )


def test_alone_or_among_others(predictor: Predictor, made: Any) -> None:
    photos = [predictor.prepare(photo) for photo in made.photos]
    assert len(photos) > BATCH
    together = np.stack([prediction.probabilities for prediction in predictor.predict_inputs(photos)])
    alone = np.stack([predictor.predict_inputs([photo])[0].probabilities for photo in photos])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_from_many_threads(predictor: Predictor, made: Any) -> None:
    wanted = [prediction.probabilities for prediction in predictor.predict(made.photos)]
    with ThreadPoolExecutor(8) as pool:
        for predictions in pool.map(predictor.predict, [made.photos] * 32):
            np.testing.assert_allclose(
                [prediction.probabilities for prediction in predictions], wanted, atol=1e-6
            )


def test_bad_photos(predictor: Predictor, made: Any) -> None:
    with pytest.raises(BadPhoto, match="not an image"):
        predictor.predict([made.photos[0], b"%PDF-1.4"])
    with pytest.raises(BadPhoto, match="limit"):
        predictor.prepare(made.photos[0], max_pixels=1000)


def test_an_array_is_a_photo_too(predictor: Predictor, made: Any) -> None:
    pixels = decode(made.photos[0])
    for member, resized in zip(predictor.bundle.members, predictor.prepare(pixels), strict=True):
        np.testing.assert_array_equal(resized, resize_photo(pixels, member.size, member.resize_mode))
    for wrong in (pixels[0], pixels[..., :2], pixels.astype(np.float32), pixels[:0]):
        with pytest.raises(ValueError, match="is not a photo: it must be uint8"):
            predictor.prepare(wrong)


def test_a_damaged_bundle(bundle: Path) -> None:
    (bundle / "members/small-0.onnx").write_bytes(b"\x08\x08")  # a version of ONNX, and no graph
    with pytest.raises(FovsfeError, match="small-0"):
        Predictor(bundle)


def test_a_sealed_file_that_is_no_network(bundle: Path) -> None:
    (bundle / "members/small-0.onnx").write_bytes(b"\x08\x08")  # a version of ONNX, and no graph
    write_bundle(bundle, _unchecked(bundle))
    with pytest.raises(FovsfeError, match=r"onnxruntime .* cannot load .*small-0") as caught:
        Predictor(bundle)
    assert "\n" not in str(caught.value)


def test_a_network_for_other_labels(bundle: Path) -> None:
    changed = _unchecked(bundle).model_dump(mode="json")
    changed["class_names"].append("Fiat")
    changed["label_ids"]["Fiat"] = "3"
    changed["blend"]["bias"].append(0)
    write_bundle(bundle, Bundle.model_validate_json(json.dumps(changed)))
    with pytest.raises(FovsfeError, match="4 labels"):
        Predictor(bundle)


def test_needs_no_training_library(made: Any) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from fovsfe.bundle import batch, cam, card, photo_paths, prediction_file, predictor;"
        "predictor.Predictor(Path(sys.argv[1]));"
        "print(*sorted({'torch', 'timm', 'pandas', 'sklearn', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(made.folder)], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""


def _unchecked(bundle: Path) -> Bundle:
    return Bundle.model_validate_json((bundle / "bundle.json").read_text())


def test_on_openvino(predictor: Predictor, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("FOVSFE_RUNTIME", "openvino")
    other = Predictor(made.folder, threads=1)
    with ThreadPoolExecutor(4) as pool:
        for predictions in pool.map(other.predict, [made.photos] * 8):
            for one, same in zip(predictions, predictor.predict(made.photos), strict=True):
                np.testing.assert_allclose(one.probabilities, same.probabilities, atol=1e-4)
                np.testing.assert_allclose(one.cams[1], same.cams[1], atol=1e-3)


def test_a_runtime_that_is_none(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVSFE_RUNTIME", "tflite")
    with pytest.raises(FovsfeError, match="FOVSFE_RUNTIME=tflite: it must be onnxruntime or openvino"):
        Predictor(made.folder)
    monkeypatch.setenv("FOVSFE_RUNTIME", "openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(FovsfeError, match="not installed"):
        Predictor(made.folder)
