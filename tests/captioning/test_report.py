"""The report on a captioner: its facts are those of the data and the scores, and it works in a browser from a file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioning.captioner import Captioner, load_torch_captioner
from captioning.cli import main
from captioning.report import choose_cases
from data_prep.captions import prepare_captions
from evaluation.caption_scores import SCORES, score_captions

EARLIER = Path(__file__).parents[1] / "earlier"
NAMES = ["<img src=x onerror=alert(1)>.jpg", "</script><b>bold</b>.jpg", "a&amp;b 'c' \"d\".jpg"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of twelve test images, some with names and captions that contain HTML."""
    folder = tmp_path_factory.mktemp("hostile")
    lines = []
    names = [*NAMES, *(f"photo {number}.jpg" for number in range(13))]
    for index, name in enumerate(names):
        # A slash would be a folder.
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_mandelbrot((60, 40), (-2 + index / 9, -1.5, 1, 1.5), 40).convert("RGB").save(path)
        captions = [f"<script>alert({index})</script> a dog runs on the grass", "the <b>red</b> ball & a cat sits"]
        lines.append({"image": name, "captions": captions, "split": "test" if index < 12 else "train"})
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    prepare_captions(str(folder / "captions.jsonl"), folder / "data", image_root=folder / "images", min_count=1)
    return folder / "data"


@pytest.fixture(scope="module")
def evaluation(data: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation") / "scores.json"
    assert main(["evaluate", "--model", str(model_folder), "--data", str(data), "-o", str(path), "--quiet"]) == 0
    return path


@pytest.fixture(scope="module")
def report(evaluation: Path) -> Path:
    path = evaluation.with_name("report.html")
    assert main(["report", str(evaluation), "-o", str(path), "--quiet"]) == 0
    return path


def test_every_case_is_as_in_the_data(
    browser: Any, report: Path, evaluation: Path, data: Path, model_folder: Path, tmp_path: Path
) -> None:
    browser.open(report)
    document = json.loads(evaluation.read_text())
    headings = browser.texts("h2")
    assert [name for name in headings if "captions" in name] == [
        f"{kind} captions" for kind in ("Best", "Median", "Worst", "Random")
    ]
    names = browser.texts("article h3")
    assert sorted(names) == sorted(document["captions"])  # Twelve images: three of each kind.
    first = browser.texts(".attended-captions li:first-child [role=group]")
    assert dict(zip(names, map(str.strip, first), strict=True)) == document["captions"]
    alternatives = browser.texts("article:first-of-type li:nth-child(2)")
    assert alternatives
    values = [float(text.split()[1]) for text in browser.texts("article h3 + p")]
    assert values[:3] == sorted(values[:3], reverse=True)
    assert min(values[:3]) >= max(values[3:])
    assert max(values[6:9]) <= min(values[:6])


def test_scores_are_those_of_the_protocol(browser: Any, report: Path, evaluation: Path) -> None:
    browser.open(report)
    document = json.loads(evaluation.read_text())
    rows = [text.split() for text in browser.evaluate("document.querySelector('table').innerText").splitlines()[1:]]
    assert [row[0] for row in rows] == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D", "CIDEr"]
    for name, value, low, _, high in rows:
        assert value == f"{document[name]:.4f}"
        assert float(low) <= float(value) <= float(high)
    signatures = browser.texts("details li")[:7]
    assert signatures[0].startswith("BLEU-1|protocol:coco|")
    assert "images:12|split:test" in signatures[6]


def test_html_in_names_and_captions_is_text(browser: Any, report: Path) -> None:
    browser.open(report)
    assert set(NAMES) <= set(browser.texts("article h3"))
    assert "<script>alert(0)</script> a dog runs on the grass" in browser.texts("article details li")
    assert browser.evaluate("document.querySelectorAll('script, [onerror], article b').length") == 1
    assert f"photo {NAMES[0]}" in browser.evaluate("[...document.images].map(image => image.alt)")


def test_the_file_needs_nothing_else(browser: Any, report: Path, tmp_path: Path) -> None:
    html = report.read_text(encoding="utf-8")
    assert len(html) < 10_000_000
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html
    elsewhere = shutil.copy(report, tmp_path / "elsewhere.html")
    browser.open(Path(elsewhere))
    assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert browser.evaluate("document.images.length") == 12


def shade(browser: Any) -> list[int]:
    """How dark each cell of the first photo's grid is, 0 to 255."""
    return browser.evaluate(
        "(canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
        ".filter((_, index) => index % 4 === 3))(document.querySelector('.attended canvas'))"
    )


def expected_shade(weights: np.ndarray) -> np.ndarray:
    return 0.8 * 255 * (1 - weights / weights.max())


def first_attention(browser: Any, model_folder: Path, data: Path) -> np.ndarray:
    """The model's attention weights of each word of the first caption of the first photo, (words, locations)."""
    from data_prep.images import load_image
    from data_prep.prepared_captions import PreparedCaptions

    rows = PreparedCaptions.open(data).split("test")
    image = rows[rows["name"][:].index(browser.texts("article h3")[0])]["image"]["bytes"]
    attention = np.asarray(load_torch_captioner(model_folder).caption(load_image(image))[0].attention)
    return attention.reshape(len(attention), -1)


def test_the_attention_of_the_word_under_the_mouse_is_shown(
    browser: Any, report: Path, data: Path, model_folder: Path, tmp_path: Path
) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    browser.open(report)
    word = browser.driver.find_elements(By.CSS_SELECTOR, ".attended button")[1]
    weights = first_attention(browser, model_folder, data)[1]
    before = np.asarray(browser.screenshot(tmp_path / "before.png"))
    ActionChains(browser.driver).move_to_element(word).perform()
    assert shade(browser) == pytest.approx(expected_shade(weights), abs=1.5)
    after = np.asarray(browser.screenshot(tmp_path / "after.png"))
    assert (before != after).any()
    row, column = divmod(int(weights.argmax()), 2)
    where = browser.texts(".attended-where")[0]
    assert (
        where
        == f"{word.text}: {100 * weights.max():.0f} % of the weight in row {row + 1} of 2, column {column + 1} of 2"
    )
    ActionChains(browser.driver).move_to_element(browser.driver.find_element(By.TAG_NAME, "h1")).perform()
    assert set(shade(browser)) == {0}
    assert browser.texts(".attended-where")[0] == ""


def test_the_keyboard_reaches_every_word_and_one_stop_is_enough_for_a_caption(
    browser: Any, report: Path, model_folder: Path, data: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(report)
    attention = first_attention(browser, model_folder, data)
    browser.evaluate("document.querySelector('.attended button').focus()")
    words = browser.texts(".attended li:first-child button")
    number = browser.evaluate("document.querySelector('.attended [role=group]').children.length")
    assert len(attention) == number
    shown = []
    for weights in attention:
        shown.append(browser.texts("button.shown"))
        assert shade(browser) == pytest.approx(expected_shade(weights), abs=1.5)
        browser.press(Keys.ARROW_RIGHT)
    assert shown == [[word] for word in words[:number]]
    assert browser.texts("button.shown") == [words[number - 1]]  # There is nothing to the right of the last.
    browser.press(Keys.HOME)
    assert browser.texts("button.shown") == [words[0]]
    browser.press(Keys.TAB)
    assert browser.evaluate("document.activeElement.parentElement.getAttribute('aria-label')") == "words of caption 2"
    browser.press(Keys.TAB)
    assert browser.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert browser.texts("button.shown") == []


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_readable_on_a_small_screen(browser: Any, report: Path, tmp_path: Path, dark: bool) -> None:
    browser.open(report, width=400, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") == 400
    picture = browser.screenshot(tmp_path / "report.png")
    assert picture.width == 400
    assert browser.evaluate("Math.min(...[...document.images].map(image => image.width))") > 300


def test_the_report_of_a_run_has_curves(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shutil.copytree(EARLIER / "captioning-run", tmp_path / "run")
    monkeypatch.chdir(EARLIER)
    assert main(["report", str(run), "-o", str(tmp_path / "report.html")]) == 0
    browser.open(tmp_path / "report.html")
    curves = browser.texts("#training figcaption")
    assert len(curves) == 5
    assert curves[0].startswith("loss: 2.82 at step 0 and ")
    # An unfinished run has checkpoints, but no model yet.
    shutil.rmtree(run / "model")
    assert main(["report", str(run), "--split", "validation", "-o", str(tmp_path / "other.html")]) == 0
    assert "of the split validation" in (tmp_path / "other.html").read_text()


def test_a_model_without_attention_has_no_words_to_point_at(
    data: Path,
    evaluation: Path,
    model_folder_without_attention: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "report.html"
    assert main(["report", str(evaluation), "--model", str(model_folder_without_attention), "-o", str(path)]) == 0
    assert "<button" not in path.read_text()
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "of 12 captions differ from those of" in errors[0]


def change(source: Path, target: Path, **changes: object) -> Path:
    document = json.loads(source.read_text()) | changes
    target.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))
    return target


Prepare = Callable[[Path, Path], list[object]]


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda folder, _: [folder / "missing"], "no such file"),
        (lambda folder, _: [folder], "not a run folder (no config.yaml)"),
        (lambda folder, _: [EARLIER / "pixelrnn-run"], "not a run of captioning train (no 'decoder'"),
        (lambda folder, good: [change(good, folder / "x.json", captions=3)], "not an evaluation"),
        (lambda folder, good: [change(good, folder / "x.json", captions={"a.jpg": 3})], "not an evaluation"),
        (lambda folder, good: [change(good, folder / "x.json", search={"breadth": 3})], "not an evaluation"),
        (lambda folder, good: [change(good, folder / "x.json", search={"beam_size": "5"})], "not an evaluation"),
        (lambda folder, good: [change(good, folder / "x.json", perplexity="low")], "not an evaluation"),
        (lambda folder, good: [change(good, folder / "x.json", data=None)], "add --data FOLDER"),
        (
            lambda folder, good: [change(good, folder / "x.json", data="gone")],
            "names the data set gone, which is not here",
        ),
        (lambda folder, good: [change(good, folder / "x.json", model=None)], "add --model"),
        (lambda folder, good: [change(good, folder / "x.json", content_hash="0")], "not the data that"),
        (
            lambda folder, good: [change(good, folder / "x.json", captions={"other.jpg": "a"})],
            "images that the references do not have",
        ),
        (lambda folder, good: [good, "--split", "train"], "omit --split"),
        (lambda folder, good: [good, "--data", EARLIER / "pixels"], "not captions"),
    ],
)
def test_what_is_no_run_or_evaluation_is_named(
    evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], prepare: Prepare, reason: str
) -> None:
    arguments = prepare(tmp_path, evaluation)
    assert main(["report", *map(str, arguments), "-o", str(tmp_path / "report.html")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert reason in errors[0]
    assert not (tmp_path / "report.html").exists()


def test_a_damaged_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("a: [", "just text"):
        (tmp_path / "config.yaml").write_text(text)
        assert main(["report", str(tmp_path), "-o", str(tmp_path / "report.html")]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert "config.yaml: not " in error


@pytest.mark.parametrize(("name", "reason"), [("", "is a folder"), ("x.json", "end its name in .html")])
def test_the_output_is_a_page(
    evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    assert main(["report", str(evaluation), "-o", str(tmp_path / name)]) == 2
    assert reason in capsys.readouterr().err


def test_cases_of_all_kinds_are_different_images() -> None:
    values = [0.0, 5.0, 1.0, 1.0, 3.0, 2.0, 4.0, 9.0, 8.0, 7.0, 6.0, 0.5]
    chosen = choose_cases(values, seed=0, most=2)
    assert (chosen["Best"], chosen["Worst"], chosen["Median"]) == ([7, 8], [11, 0], [6, 4])
    assert not {*chosen["Random"]} & {7, 8, 11, 0, 6, 4}
    assert chosen == choose_cases(values, seed=0, most=2)
    assert any(choose_cases(values, seed, most=2)["Random"] != chosen["Random"] for seed in range(1, 9))


@pytest.mark.parametrize("number", range(1, 30))
def test_no_image_is_chosen_twice(number: int) -> None:
    chosen = [index for cases in choose_cases([1.0] * number, seed=1).values() for index in cases]
    assert len(chosen) == len(set(chosen)) == min(number, 24)


def test_images_are_ranked_by_their_own_cider_d() -> None:
    scores = score_captions([["a", "b"], ["c"]], [[["a", "b"]], [["d"]]])
    of_images = SCORES["CIDEr-D"](scores.statistics, 1)
    assert of_images.mean() == pytest.approx(scores.cider_d)
    assert of_images[0] > of_images[1] == 0


def test_captions_differ_only_if_the_model_does(report: Path) -> None:
    assert "The evaluated caption was" not in report.read_text(encoding="utf-8")


def test_all_beams_are_listed(report: Path, tiny_captioner: Captioner) -> None:
    html = report.read_text(encoding="utf-8")
    assert "words of caption 2" in html
    assert "words of caption 3" not in html
