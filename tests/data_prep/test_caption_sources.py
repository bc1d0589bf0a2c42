"""The readers on small files written here, and their errors for invalid files."""

import json
from pathlib import Path

import pytest

from data_prep.caption_sources.caption_formats import FORMATS, read_captions, resolve_format
from data_prep.captions import prepare_captions
from vision_rnn.errors import UserError


def read(source: Path, format: str = "auto", image_root: Path | None = None) -> list[tuple]:
    records = read_captions(str(source), resolve_format(str(source), format), image_root)
    return [(record.name, record.split, record.captions) for record in records]


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        'image,caption\na.jpg,"A dog, running"\na.jpg,A cat\n',
        "image_name| comment_number| comment\na.jpg| 0| A dog, running\na.jpg| 1| A cat\n",
        "Text\tFile_Name\r\nA dog, running\ta.jpg\r\nA cat\ta.jpg\r\n",
        '\ufefffilename, caption\na.jpg, "A dog, running"\n\na.jpg, A cat\n',
    ],
    ids=["comma", "Flickr30k", "tab", "byte-order mark and spaces"],
)
def test_csv_dialects_and_column_names(text, tmp_path):
    assert read(write(tmp_path / "captions.csv", text)) == [
        ("a.jpg", None, ["A dog, running"]),
        ("a.jpg", None, ["A cat"]),
    ]


def test_flickr30k_table_keeps_quotation_marks_and_yields_its_row_without_a_caption(tmp_path):
    text = 'image_name| comment_number| comment\n1.jpg| 0| "Stop" sign with 5" letters\n2.jpg| 4   A dog runs\n'
    assert read(write(tmp_path / "results.csv", text)) == [
        ("1.jpg", None, ['"Stop" sign with 5" letters']),
        ("2.jpg", None, [""]),
    ]


def test_csv_split_column_and_split_named_files(tmp_path):
    write(tmp_path / "train.csv", "image,caption,split\na.jpg,A,\nb.jpg,B,dev\n")
    write(tmp_path / "test.csv", "image,caption\nc.jpg,C\n")
    assert [record[:2] for record in read(tmp_path)] == [("c.jpg", "test"), ("a.jpg", "train"), ("b.jpg", "validation")]


def test_jsonl_takes_one_caption_or_a_list(tmp_path):
    text = '{"image": "a.jpg", "caption": "A"}\n\n{"file_name": "b.jpg", "captions": ["B", "C"], "split": "val"}\n'
    assert read(write(tmp_path / "metadata.jsonl", text)) == [
        ("a.jpg", None, ["A"]),
        ("b.jpg", "validation", ["B", "C"]),
    ]


def test_karpathy_splits_and_file_paths(make_image, tmp_path):
    make_image(tmp_path / "val2014" / "a.png")
    images = [
        {"filename": "a.png", "filepath": "val2014", "split": split, "sentences": [{"raw": "A dog ."}]}
        for split in ("restval", "val", "test", "train")
    ]
    source = write(tmp_path / "dataset_coco.json", json.dumps({"images": images}))
    assert [record[:2] for record in read(source)] == [
        ("val2014/a.png", split) for split in ("train", "validation", "test", "train")
    ]


def test_coco_official_layout(make_image, tmp_path):
    for year_split in ("train2014", "val2014"):
        make_image(tmp_path / year_split / f"{year_split}.png")
        document = {
            "images": [{"id": 7, "file_name": f"{year_split}.png"}],
            "annotations": [{"image_id": 7, "caption": "A dog."}, {"image_id": 7, "caption": "A cat."}],
        }
        write(tmp_path / "annotations" / f"captions_{year_split}.json", json.dumps(document))
    for source in (tmp_path, tmp_path / "annotations"):
        assert resolve_format(str(source), "auto") == "coco"
        records = list(read_captions(str(source), "coco", None))
        assert [(record.name, record.split) for record in records] == [
            ("train2014.png", "train"),
            ("val2014.png", "validation"),
        ]
        assert all(record.image.read_bytes() and record.captions == ["A dog.", "A cat."] for record in records)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("captions_latest.json", None),
        ("captions_retrieval.json", None),
        ("captions_latest_val2014.json", "validation"),
        ("captions_training.json", "train"),
        ("test.json", "test"),
    ],
)
def test_coco_split_is_no_part_of_another_word(name, split, tmp_path):
    document = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "A dog."}]}
    assert read(write(tmp_path / name, json.dumps(document)), "coco") == [("a.png", split, ["A dog."])]


def test_json_is_recognised_by_its_keys_after_a_byte_order_mark_and_whatever_the_captions_say(tmp_path):
    images = [{"filename": "a.png", "split": "val", "sentences": [{"raw": 'A "annotations": sign.'}]}]
    source = write(tmp_path / "other.json", "\ufeff" + json.dumps({"images": images}))
    assert read(source) == [("a.png", "validation", ['A "annotations": sign.'])]


def test_a_folder_is_a_folder_whatever_its_suffix(make_image, tmp_path):
    write(make_image(tmp_path / "x.json" / "a.png").with_suffix(".txt"), "A")
    assert read(tmp_path / "x.json") == [("a.png", None, ["A"])]


def test_texts_beside_most_images_are_preferred_to_a_table(make_image, tmp_path):
    for name in ("a", "b", "c"):
        make_image(tmp_path / f"{name}.png")
    write(tmp_path / "captions.csv", "image,caption\na.png,Table\n")
    write(tmp_path / "a.txt", "A")
    assert resolve_format(str(tmp_path), "auto") == "csv"
    write(tmp_path / "b.txt", "B")
    assert resolve_format(str(tmp_path), "auto") == "sidecar"


def test_texts_beside_few_images_will_do_where_nothing_else_is(make_image, tmp_path):
    for name in ("a", "b", "c"):
        make_image(tmp_path / f"{name}.png")
    write(tmp_path / "a.txt", "A")
    assert read(tmp_path) == [("a.png", None, ["A"]), ("b.png", None, []), ("c.png", None, [])]


def test_sidecar_splits_subfolders_and_images_without_text(make_image, tmp_path):
    for name in ("val/deep/a.png", "test/b.png", "other/c.png"):
        make_image(tmp_path / name)
    write(tmp_path / "val/deep/a.txt", "A dog .\r\n\r\nA cat .\r\n")
    write(tmp_path / "test/b.txt", "B")
    assert read(tmp_path) == [
        ("other/c.png", None, []),
        ("b.png", "test", ["B"]),
        ("deep/a.png", "validation", ["A dog .", "A cat ."]),
    ]


def test_absolute_paths_are_named_relative_to_the_image_root(make_image, tmp_path):
    image = make_image(tmp_path / "photos" / "sub" / "a.png")
    source = write(tmp_path / "captions.csv", f"image,caption\n{image},A dog\n")
    assert read(source, image_root=tmp_path / "photos")[0][0] == "sub/a.png"


IMAGES = '{"images": [{"id": 1, "file_name": "a.jpg", "filename": "a.jpg", "split": "train"'
BAD_SOURCES = {
    "no image column": ("x.csv", "photo,caption\n", "line 1: no column for the image"),
    "no caption column": ("x.csv", "image,words\n", "line 1: no column for the caption"),
    "empty table": ("x.csv", "", "line 1: no column for the image"),
    "unquoted comma": ("x.csv", "image,caption\na.jpg,A dog, running\n", "line 2: 3 cells, but 2 columns"),
    "open quotation": ("x.csv", 'image,caption\na.jpg,"A dog\n', "line 2: not valid CSV"),
    "unknown split": ("x.csv", "image,caption,split\na.jpg,A dog,later\n", "line 2: unknown split 'later'"),
    "not UTF-8": ("x.csv", b"image,caption\na.jpg,caf\xe9\n", "line 2: not UTF-8"),
    "line is not JSON": ("x.jsonl", '{"image": "a.jpg", "caption": "A"}\n{"image"\n', "line 2: not valid JSON"),
    "line is not an object": ("x.jsonl", "[1]\n", "line 1: not a JSON object"),
    "line without caption": ("x.jsonl", '{"image": "a.jpg"}\n', "line 1: no column for the caption"),
    "image is a number": ("x.jsonl", '{"image": 3, "caption": "A"}\n', "line 1: must be an object with 'image'"),
    "caption is a number": ("x.jsonl", '{"image": "a.jpg", "caption": 3}\n', "line 1: the captions must be"),
    "broken JSON": ("x.json", '{"images": [\n', "line 2: not valid JSON"),
    "other JSON": ("x.json", "[]", "format is not recognised"),
    "images is not a list": ("x.json", '{"images": 3}', "must be an object with 'images'"),
    "no sentences": ("x.json", IMAGES + "}]}", r"images\[0\]: must be an object with 'sentences'"),
    "bad sentence": ("x.json", IMAGES + ', "sentences": ["A"]}]}', r"images\[0\]: must be an object with 'raw'"),
    "no caption": ("x.json", IMAGES + '}], "annotations": [{"image_id": 1}]}', r"annotations\[0\]: .* 'caption'"),
    "no image_id": ("x.json", IMAGES + '}], "annotations": [{"caption": "A"}]}', r"annotations\[0\]: .* 'image_id'"),
    "unknown id": ("x.json", IMAGES + '}], "annotations": [{"image_id": 2, "caption": "A"}]}', "unknown image_id 2"),
    "no tab": ("Flickr8k.token.txt", "a.jpg#0 A dog\n", "line 1: no tab"),
    "unknown suffix": ("x.xml", "", "format is not recognised"),
}


@pytest.mark.parametrize(("name", "text", "message"), BAD_SOURCES.values(), ids=BAD_SOURCES.keys())
def test_bad_sources_are_refused_with_file_and_line(name, text, message, tmp_path):
    path = write(tmp_path / name, text)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path if name.startswith("Flickr8k") else path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_and_unrecognised_sources(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        read(tmp_path / "absent")
    with pytest.raises(UserError, match="not recognised; name it with --format flickr8k"):
        read(tmp_path)
    with pytest.raises(UserError, match="no such folder; --image-root"):
        read(write(tmp_path / "x.csv", "image,caption\n"), image_root=tmp_path / "absent")


@pytest.mark.parametrize("format", ["flickr8k", "karpathy", "coco", "csv", "jsonl", "sidecar"])
def test_a_folder_without_the_files_of_the_format_is_refused(format, tmp_path):
    assert format in FORMATS
    with pytest.raises(UserError, match="contains no"):
        read(tmp_path, format)


class TestHub:
    """`load_dataset` is replaced, since tests have no network."""

    @pytest.fixture
    def offer(self, monkeypatch):
        import datasets

        def offer(result: object) -> None:
            def load_dataset(name: str) -> object:
                assert name == "owner/name"
                if isinstance(result, Exception):
                    raise result
                return result

            monkeypatch.setattr(datasets, "load_dataset", load_dataset)

        return offer

    @staticmethod
    def rows(images: list[Path], **columns: list) -> object:
        from datasets import Dataset, Image

        return Dataset.from_dict({"image": [str(image) for image in images], **columns}).cast_column("image", Image())

    def test_columns_are_found_and_images_stay_encoded(self, offer, make_image, tmp_path):
        from datasets import DatasetDict

        images = [make_image(tmp_path / name) for name in ("a.png", "b.jpg")]
        train = self.rows(images, caption=[["A", "B"], ["C"]])
        offer(DatasetDict({"train": train, "dev": self.rows(images[:1], caption=["D"])}))
        records = list(read_captions("hub:owner/name", resolve_format("hub:owner/name", "auto"), None))
        assert [(record.name, record.split, record.captions) for record in records] == [
            ("a.png", "train", ["A", "B"]),
            ("b.jpg", "train", ["C"]),
            ("a.png", "validation", ["D"]),
        ]
        assert [record.image.read_bytes() for record in records[:2]] == [image.read_bytes() for image in images]

    def test_numbered_captions_and_a_split_column(self, offer, make_image, tmp_path):
        from datasets import DatasetDict

        columns = {"caption_0": ["A"], "caption_1": ["B"], "split": ["val"], "filename": ["photo.png"]}
        offer(DatasetDict({"test": self.rows([make_image(tmp_path / "a.png")], **columns)}))
        assert read(Path("owner/name"), "hub") == [("photo.png", "validation", ["A", "B"])]

    @pytest.mark.parametrize("names", [["dev", "train"], None])
    def test_a_split_column_of_class_labels_or_names(self, names, offer, make_image, tmp_path):
        from datasets import ClassLabel, DatasetDict

        images = [make_image(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
        rows = self.rows(images, caption=["A", "B", "C"], split=[0, 1, None] if names else ["dev", "train", " "])
        offer(DatasetDict({"test": rows.cast_column("split", ClassLabel(names=names)) if names else rows}))
        assert [split for _, split, _ in read(Path("owner/name"), "hub")] == ["validation", "train", "test"]

    def test_a_split_column_of_numbers_is_refused(self, offer, make_image, tmp_path):
        from datasets import DatasetDict

        offer(DatasetDict({"train": self.rows([make_image(tmp_path / "a.png")], caption=["A"], split=[0])}))
        with pytest.raises(UserError, match="row 0: unknown split '0'"):
            read(Path("owner/name"), "hub")

    def test_images_that_are_null_or_broken_are_named_by_their_row(self, offer, make_image, tmp_path):
        from datasets import Dataset, DatasetDict, Image

        cells = [{"bytes": make_image(tmp_path / "a.png").read_bytes(), "path": None}, None]
        cells.append({"bytes": b"no image", "path": "c.png"})
        rows = Dataset.from_dict({"image": cells, "caption": ["A", "B", "C"]}).cast_column("image", Image())
        offer(DatasetDict({"train": rows, "validation": rows.select([0])}))
        manifest = prepare_captions("hub:owner/name", tmp_path / "out", min_count=1)
        assert manifest["splits"]["train"] == {"images": 1, "captions": 1}
        reasons = {entry["name"]: entry["reason"] for entry in manifest["left_out"]}
        assert reasons.keys() == {"00000001", "c.png"}
        assert "split train, row 1: image of row 1: the file is empty" in reasons["00000001"]
        assert "split train, row 2: image of row 2: not an image" in reasons["c.png"]

    def test_data_without_images_is_refused(self, offer):
        from datasets import Dataset, DatasetDict

        offer(DatasetDict({"train": Dataset.from_dict({"caption": ["A"]})}))
        with pytest.raises(UserError, match="split train: no column for the image"):
            read(Path("owner/name"), "hub")

    @pytest.mark.parametrize(
        "error", [ConnectionError("offline\nmore"), FileNotFoundError("absent"), ValueError("odd")]
    )
    def test_what_cannot_be_loaded_is_a_users_error(self, offer, error):
        offer(error)
        with pytest.raises(UserError, match=r"hub:owner/name: cannot be loaded .*the network$"):
            read(Path("owner/name"), "hub")

    def test_a_local_path_is_never_taken_for_a_hub_name(self):
        with pytest.raises(UserError, match="written hub:owner/name"):
            read(Path("owner/name"))
