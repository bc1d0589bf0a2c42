"""The readers on small files written here, and their errors for invalid files."""

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from data_prep.caption_sources.caption_formats import FORMATS, read_captions, resolve_format
from data_prep.caption_sources.record import Skipped
from data_prep.captions import prepare_captions
from vision_rnn.errors import UserError


def read(source: Path, format: str = "auto", image_root: Path | None = None) -> list[tuple]:
    skipped = Skipped()
    records = list(read_captions(str(source), resolve_format(str(source), format), image_root, skipped))
    assert skipped.entries == []
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
        records = list(read_captions(str(source), "coco", None, Skipped()))
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


BAD_SOURCES = {
    "no image column": ("x.csv", "photo,caption\n", "line 1: no column for the image"),
    "no caption column": ("x.csv", "image,words\n", "line 1: no column for the caption"),
    "empty table": ("x.csv", "", "line 1: no column for the image"),
    "open quotation": (
        "x.csv",
        'image,caption\na.jpg,A\nb.jpg,"A dog\nc.jpg,C\n',
        "line 3: not valid CSV .*never ends",
    ),
    "table in UTF-16": ("x.csv", "image,caption\na.jpg,A\n".encode("utf-16"), "line 1: not UTF-8"),
    "broken JSON": ("x.json", '{"images": [\n', "line 2: not valid JSON"),
    "other JSON": ("x.json", "[]", "format is not recognised"),
    "list of other objects": ("x.json", '[{"name of it": "a.jpg"}]', "format is not recognised"),
    "images is not a list": ("x.json", '{"images": 3}', "must be an object with 'images'"),
    "unknown suffix": ("x.xml", "", "format is not recognised"),
}


@pytest.mark.parametrize(("name", "text", "message"), BAD_SOURCES.values(), ids=BAD_SOURCES.keys())
def test_bad_sources_are_refused_with_file_and_line(name, text, message, tmp_path):
    path = write(tmp_path / name, text)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


KARPATHY = '{"images": [{"filename": "a.jpg", "split": "train", "sentences": [{"raw": "A"}]}, %s]}'
COCO = '{"images": [{"id": 1, "file_name": "a.jpg"}%s], "annotations": [{"image_id": 1, "caption": "A"}%s]}'
BAD_ENTRIES = {
    "unquoted comma": ("x.csv", "image,caption\nb.jpg,B, running\na.jpg,A\n", "line 2", "3 cells, but 2 columns"),
    "quotation within a cell": ("x.csv", 'image,caption\nb.jpg,"B" B\na.jpg,A\n', "line 2", "not valid CSV"),
    "unknown split": ("x.csv", "image,caption,split\na.jpg,A,\nb.jpg,B,later\n", "line 3", "unknown split 'later'"),
    "not UTF-8": ("x.csv", b"image,caption\nb.jpg,caf\xe9\na.jpg,A\n", "line 2", "not UTF-8"),
    "line is not JSON": ("x.jsonl", '{"image": "a.jpg", "caption": "A"}\n{"image"\n', "line 2", "not valid JSON"),
    "line is not an object": ("x.jsonl", '[1]\n{"image": "a.jpg", "caption": "A"}', "line 1", "not a JSON object"),
    "line without caption": (
        "x.jsonl",
        '{"image": "b.jpg"}\n{"image": "a.jpg", "caption": "A"}',
        "line 1",
        "no column for the caption",
    ),
    "null caption": (
        "x.jsonl",
        '{"image": "a.jpg", "caption": "A"}\n{"image": "b.jpg", "caption": null}',
        "line 2",
        "captions must be a string",
    ),
    "image is a number": (
        "x.jsonl",
        '{"image": 3, "caption": "A"}\n{"image": "a.jpg", "caption": "A"}',
        "line 1",
        "an object with 'image'",
    ),
    "line is not UTF-8": (
        "x.jsonl",
        b'{"image": "a.jpg", "caption": "A"}\n{"image": "b.jpg", "caption": "caf\xe9"}',
        "line 2",
        "not UTF-8",
    ),
    "entry of a list": ("x.json", '[{"image": "a.jpg", "caption": "A"}, {"image": "b.jpg"}]', "entry 1", "no column"),
    "caption of a mapping": ("x.json", '{"a.jpg": "A", "b.jpg": 3}', "'b.jpg'", "captions must be a string"),
    "no sentences": ("x.json", KARPATHY % '{"filename": "b.jpg"}', "images[1]", "an object with 'sentences'"),
    "bad sentence": (
        "x.json",
        KARPATHY % '{"filename": "b.jpg", "sentences": ["A"]}',
        "images[1]",
        "an object with 'raw'",
    ),
    "image without an id": ("x.json", COCO % (', {"file_name": "b.jpg"}', ""), "images[1]", "an object with 'id'"),
    "name is a number": ("x.json", COCO % (', {"id": 2, "file_name": 3}', ""), "images[1]", "with 'file_name'"),
    "two images of an id": (
        "x.json",
        COCO % (', {"id": 1, "file_name": "b.jpg"}', ""),
        "images[1]",
        "id 1 is also that of a.jpg",
    ),
    "annotation without a caption": (
        "x.json",
        COCO % ("", ', {"image_id": 1, "caption": null}'),
        "annotations[1]",
        "an object with 'caption'",
    ),
    "annotation of no image": (
        "x.json",
        COCO % ("", ', {"image_id": 2, "caption": "B"}, {"image_id": 2, "caption": "C"}'),
        "image_id 2",
        "no image has this id (captions: 2)",
    ),
    "no tab": ("x.token", "b.jpg#0 B\na.jpg#0\tA\n", "line 1", "no tab"),
    "captions not in UTF-8": ("x.token", b"a.jpg#0\tA\nb.jpg#0\tcaf\xe9\n", "line 2", "not UTF-8"),
}


@pytest.mark.parametrize(("name", "text", "place", "reason"), BAD_ENTRIES.values(), ids=BAD_ENTRIES.keys())
def test_one_bad_entry_is_listed_and_the_rest_is_read(name, text, place, reason, tmp_path):
    path = write(tmp_path / name, text)
    skipped = Skipped()
    records = list(read_captions(str(path), resolve_format(str(path), "auto"), None, skipped))
    assert [(record.name, record.captions) for record in records] == [("a.jpg", ["A"])]
    assert len(skipped.entries) == 1
    assert skipped.entries[0]["name"] == f"{path}, {place}"
    assert reason in skipped.entries[0]["reason"]
    assert str(path) not in skipped.entries[0]["reason"].partition("at ")[0]


def test_a_foreign_table_beside_captions_is_listed_and_one_alone_is_refused(tmp_path):
    write(tmp_path / "prices.csv", "item,price\nbone,3\n")
    with pytest.raises(UserError, match=r"prices\.csv, line 1: no column for the image"):
        read(tmp_path)
    write(tmp_path / "captions.csv", "image,caption\na.jpg,A\n")
    skipped = Skipped()
    assert [record.name for record in read_captions(str(tmp_path), "csv", None, skipped)] == ["a.jpg"]
    assert [entry["name"] for entry in skipped.entries] == [f"{tmp_path / 'prices.csv'}, line 1"]


def test_coco_entries_that_repeat_are_used_once_and_counted(tmp_path, capsys):
    image, other = {"id": 1, "file_name": "a.jpg"}, {"id": "x2", "file_name": "b.jpg"}
    annotation = {"id": 7, "image_id": 1, "caption": "A dog."}
    # The same words of another person, and entries without ids, are no repetitions.
    annotations = [annotation, annotation, annotation | {"id": 8}, {"image_id": "x2", "caption": "A cat."}] * 2
    document = {"images": [image, other, image], "annotations": annotations}
    assert read(write(tmp_path / "captions_all.json", json.dumps(document))) == [
        ("a.jpg", None, ["A dog.", "A dog."]),
        ("b.jpg", None, ["A cat.", "A cat."]),
    ]
    said = capsys.readouterr().err
    assert "1 entries of 'images' repeat another one" in said
    assert "4 annotations repeat another one" in said


class TestImageFolder:
    """The layout of Hugging Face's image folders: tables inside or above the folders of the splits."""

    @staticmethod
    def table(rows: list[dict[str, str]], suffix: str) -> str | bytes:
        if suffix == "jsonl":
            return "\n".join(map(json.dumps, rows))
        if suffix == "csv":
            return "file_name,text\n" + "".join(f"{row['file_name']},{row['text']}\n" for row in rows)
        buffer = io.BytesIO()
        Dataset.from_list(rows).to_parquet(buffer)
        return buffer.getvalue()

    @pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
    @pytest.mark.parametrize("base", ["", "data/"])
    def test_tables_inside_and_above_the_folders_of_splits_give_the_same(self, base, suffix, make_image, tmp_path):
        for layout in ("inside", "above"):
            for name in ("train/a.png", "train/deep/b.png", "dev/a.png", "test/c.png"):
                make_image(tmp_path / layout / base / name)
        inside, above = tmp_path / "inside", tmp_path / "above"
        for split, names in (("train", ["a.png", "deep/b.png"]), ("dev", ["a.png"]), ("test", ["c.png"])):
            rows = [{"file_name": name, "text": f"{split} {name}"} for name in names]
            write(inside / base / split / f"metadata.{suffix}", self.table(rows, suffix))
        rows = [
            {"file_name": f"{base}{split}/{name}", "text": f"{split} {name}"}
            for split, name in (("train", "a.png"), ("train", "deep/b.png"), ("dev", "a.png"), ("test", "c.png"))
        ]
        write(above / f"metadata.{suffix}", self.table(rows, suffix))
        expected = [
            ("a.png", "train", ["train a.png"]),
            ("a.png", "validation", ["dev a.png"]),
            ("c.png", "test", ["test c.png"]),
            ("deep/b.png", "train", ["train deep/b.png"]),
        ]
        assert sorted(read(inside)) == expected
        assert sorted(read(above)) == expected

    def test_a_split_column_precedes_the_folder(self, tmp_path):
        source = write(tmp_path / "metadata.csv", "file_name,text,split\ntrain/a.png,A,val\ntrain/b.png,B,\n")
        assert read(source) == [("train/a.png", "validation", ["A"]), ("b.png", "train", ["B"])]

    def test_tables_at_any_depth_name_images_beside_them(self, make_image, tmp_path):
        for folder in ("dogs", "cats/old"):
            make_image(tmp_path / folder / "a.png")
            write(tmp_path / folder / "metadata.jsonl", '{"file_name": "a.png", "text": "A"}')
        assert read(tmp_path) == [("cats/old/a.png", None, ["A"]), ("dogs/a.png", None, ["A"])]
        assert all(record.image.read_bytes() for record in read_captions(str(tmp_path), "jsonl", None, Skipped()))


class TestJsonCaptions:
    def test_lists_of_blip_and_lavis_with_their_splits(self, make_image, tmp_path):
        make_image(tmp_path / "val2014" / "a.png")
        entry = {"image": "val2014/a.png", "caption": "A dog.", "image_id": "coco_7"}
        train = [entry, entry | {"caption": "A cat."}]
        write(tmp_path / "annotations" / "coco_karpathy_train.json", json.dumps(train))
        test = [{"image": "val2014/b.png", "caption": ["A cow.", "A pig."]}]
        write(tmp_path / "annotations" / "coco_karpathy_test.json", json.dumps(test))
        write(tmp_path / "annotations" / "config.json", '{"version": 1}')
        records = list(read_captions(str(tmp_path / "annotations"), "json", tmp_path, Skipped()))
        assert [(record.name, record.split, record.captions, record.id) for record in records] == [
            ("val2014/b.png", "test", ["A cow.", "A pig."], None),
            ("val2014/a.png", "train", ["A dog."], "coco_7"),
            ("val2014/a.png", "train", ["A cat."], "coco_7"),
        ]
        assert records[1].image.read_bytes()
        assert resolve_format(str(tmp_path), "auto") == "json"

    def test_an_object_maps_names_to_one_or_several_captions(self, tmp_path):
        source = write(tmp_path / "all.json", '{"a.jpg": "A dog.", "sub/b.JPG": ["A cat.", {"raw": "A cow."}]}')
        assert read(source) == [("a.jpg", None, ["A dog."]), ("sub/b.JPG", None, ["A cat.", "A cow."])]


class TestTokenFiles:
    TEXT = "1.jpg#0\tA dog .\n1.jpg#1\tA cat .\n2.jpg#0\tA cow .\n"

    @pytest.mark.parametrize("name", ["results_20130124.token", "results.token", "flickr30k.token.txt"])
    @pytest.mark.parametrize("alone", [True, False])
    def test_flickr30k_with_lists_of_its_splits(self, alone, name, tmp_path):
        path = write(tmp_path / name, self.TEXT)
        write(tmp_path / "train.txt", "1\n")
        write(tmp_path / "val.txt", "2\n")
        assert read(path if alone else tmp_path) == [
            ("1.jpg", "train", ["A dog ."]),
            ("1.jpg", "train", ["A cat ."]),
            ("2.jpg", "validation", ["A cow ."]),
        ]

    def test_several_are_refused_unless_one_is_flickr8ks(self, tmp_path):
        for name in ("a.token", "b.token"):
            write(tmp_path / name, self.TEXT)
        with pytest.raises(UserError, match=r"2 caption files, such as a\.token; name one of them"):
            read(tmp_path)
        write(tmp_path / "Flickr8k.token.txt", "3.jpg#0\tA pig .\n")
        assert read(tmp_path) == [("3.jpg", None, ["A pig ."])]


class TestNamesOfOtherMachines:
    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("Images\\a.png", "Images/a.png"),
            ("sub\\deep\\b.png", "sub/deep/b.png"),
            ("C:\\photos\\sub\\deep\\b.png", "sub/deep/b.png"),
            ("\\\\server\\share\\photos\\a.png", "a.png"),
            ("/home/somebody/sub/deep/b.png", "sub/deep/b.png"),
        ],
    )
    def test_they_are_found_by_the_end_of_their_path(self, name, found, make_image, tmp_path):
        for path in ("Images/a.png", "sub/deep/b.png"):
            make_image(tmp_path / path)
        source = write(tmp_path / "captions.jsonl", json.dumps({"image": name, "caption": "A"}))
        (record,) = read_captions(str(source), "jsonl", None, Skipped())
        assert record.name == found
        assert record.image.read_bytes()

    def test_only_a_shortened_path_is_noted(self, make_image, tmp_path, capsys):
        make_image(tmp_path / "sub" / "a.png")
        source = write(tmp_path / "captions.csv", "image,caption\nsub\\a.png,A\n")
        assert read(source) == [("sub/a.png", None, ["A"])]
        assert capsys.readouterr().err == ""
        source = write(tmp_path / "captions.csv", "image,caption\nD:\\mine\\sub\\a.png,A\n")
        assert read(source) == [("sub/a.png", None, ["A"])]
        assert r"1 images were found by the end of their path, such as D:\mine\sub\a.png at sub/a.png" in (
            capsys.readouterr().err
        )

    def test_a_name_that_has_backslashes_itself_comes_first(self, make_image, tmp_path):
        make_image(tmp_path / "sub\\a.png")
        make_image(tmp_path / "sub" / "a.png")
        source = write(tmp_path / "captions.csv", "image,caption\nsub\\a.png,A\n")
        assert read(source)[0][0] == "sub\\a.png"


class TestSidecar:
    @pytest.mark.parametrize("name", ["a.txt", "a.caption", "a.jpg.txt", "a.jpg.caption", "a.TXT", "a.Caption"])
    def test_texts_of_any_usual_name(self, name, make_image, tmp_path):
        make_image(tmp_path / "a.jpg")
        write(tmp_path / name, "A dog.\nA cat.\n")
        assert read(tmp_path) == [("a.jpg", None, ["A dog.", "A cat."])]

    def test_the_first_of_several_is_used_and_the_others_are_named(self, make_image, tmp_path, capsys):
        make_image(tmp_path / "a.jpg")
        write(tmp_path / "a.caption", "Second")
        write(tmp_path / "a.jpg.txt", "Third")
        write(tmp_path / "a.txt", "First")
        assert read(tmp_path) == [("a.jpg", None, ["First"])]
        assert "1 images have several text files" in (said := capsys.readouterr().err)
        assert "a.txt in place of a.caption, a.jpg.txt" in said

    def test_texts_in_other_encodings_are_listed(self, make_image, tmp_path):
        for name, text in (("a", b"A dog."), ("b", "Ein Hündchen".encode("cp1252")), ("c", "A cat".encode("utf-16"))):
            make_image(tmp_path / f"{name}.jpg")
            write(tmp_path / f"{name}.txt", text)
        skipped = Skipped()
        assert [record.name for record in read_captions(str(tmp_path), "sidecar", None, skipped)] == ["a.jpg"]
        assert [Path(entry["name"]).name for entry in skipped.entries] == ["b.txt", "c.txt"]
        assert all(entry["reason"].startswith("line 1: not UTF-8") for entry in skipped.entries)


class TestParquet:
    @staticmethod
    def cells(make_image: Callable[..., Path], folder: Path, kind: str) -> list:
        encoded = [make_image(folder / name).read_bytes() for name in ("a.png", "b.jpg")]
        if kind == "bytes":
            return encoded
        paths = ["a.png", "b.jpg"] if kind == "bytes and paths" else [None, None]
        return [{"bytes": data, "path": path} for data, path in zip(encoded, paths, strict=True)]

    @pytest.mark.parametrize("kind", ["bytes", "bytes and paths", "bytes and null paths"])
    def test_encoded_images_of_any_program(self, kind, make_image, tmp_path):
        cells = self.cells(make_image, tmp_path / "photos", kind)
        table = pa.table({"image": cells, "caption": [["A", "B"], ["C"]]})
        (tmp_path / "data").mkdir()
        pq.write_table(table, tmp_path / "data" / "train-00000-of-00001.parquet")
        assert resolve_format(str(tmp_path), "auto") == "parquet"
        records = list(read_captions(str(tmp_path), "parquet", None, Skipped()))
        names = ["a.png", "b.jpg"] if kind == "bytes and paths" else ["00000000", "00000001"]
        assert [(record.name, record.split, record.captions) for record in records] == [
            (names[0], "train", ["A", "B"]),
            (names[1], "train", ["C"]),
        ]
        photos = [(tmp_path / "photos" / name).read_bytes() for name in ("a.png", "b.jpg")]
        assert [record.image.read_bytes() for record in records] == photos

    def test_bad_rows_are_listed(self, make_image, tmp_path):
        cells = self.cells(make_image, tmp_path, "bytes")
        table = pa.table({"image": [*cells, None], "caption": ["A", None, "C"]})
        pq.write_table(table, tmp_path / "photos.parquet")
        manifest = prepare_captions(tmp_path / "photos.parquet", tmp_path / "out", min_count=1)
        assert manifest["splits"] == {"train": {"images": 1, "captions": 1}}
        reasons = {entry["name"]: entry["reason"] for entry in manifest["left_out"]}
        assert "captions must be a string" in reasons[f"{tmp_path / 'photos.parquet'}, row 1"]
        assert "the file is empty" in reasons["00000002"]

    def test_no_copy_stays_behind(self, make_image, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        (tmp_path / "temporary").mkdir()
        table = pa.table({"image": self.cells(make_image, tmp_path, "bytes"), "text": ["A", "B"]})
        pq.write_table(table, tmp_path / "x.parquet")
        records = list(read_captions(str(tmp_path / "x.parquet"), "parquet", None, Skipped()))
        assert list((tmp_path / "temporary").iterdir()) == []
        assert records[1].image.read_bytes() == (tmp_path / "b.jpg").read_bytes()


def test_numbered_caption_columns_and_their_empty_cells(tmp_path):
    text = "image,caption_1,caption_2\na.jpg,A,B\nb.jpg,C,\n"
    assert read(write(tmp_path / "x.csv", text)) == [("a.jpg", None, ["A", "B"]), ("b.jpg", None, ["C"])]


def test_files_of_other_formats_are_named(make_image, tmp_path, capsys):
    make_image(tmp_path / "a.png")
    write(tmp_path / "a.txt", "A")
    write(tmp_path / "captions.csv", "image,caption\na.png,B\n")
    write(tmp_path / "more.jsonl", '{"image": "a.png", "caption": "C"}')
    write(tmp_path / "settings.json", '{"a": 1}')
    assert read(tmp_path) == [("a.png", None, ["A"])]
    assert "read as sidecar; not read: more.jsonl, captions.csv (name a file to read it)" in capsys.readouterr().err


def test_photos_without_captions_are_told_how_to_have_some(make_image, tmp_path):
    make_image(tmp_path / "sub" / "a.png")
    with pytest.raises(UserError, match=r"contains images, but no captions; write those of a\.jpg to a\.txt"):
        read(tmp_path)


def test_absent_and_unrecognised_sources(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        read(tmp_path / "absent")
    with pytest.raises(UserError, match="not recognised; name it with --format flickr8k"):
        read(write(tmp_path / "x.xml", ""))
    with pytest.raises(UserError, match=r"no captions found; looked for \.txt .*captions\.csv"):
        read(tmp_path)
    with pytest.raises(UserError, match="no such folder; --image-root"):
        read(write(tmp_path / "x.csv", "image,caption\n"), image_root=tmp_path / "absent")


@pytest.mark.parametrize("format", ["flickr8k", "karpathy", "coco", "csv", "jsonl", "json", "parquet", "sidecar"])
def test_a_folder_without_the_files_of_the_format_is_refused(format, tmp_path):
    assert format in FORMATS
    with pytest.raises(UserError, match="contains no"):
        read(tmp_path, format)


class TestHub:
    """`load_dataset` is replaced, since tests have no network."""

    @pytest.fixture
    def offer(self, monkeypatch, tmp_path):
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)

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
        records = list(read_captions("hub:owner/name", resolve_format("hub:owner/name", "auto"), None, Skipped()))
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

    def test_unknown_splits_are_listed(self, offer, make_image, tmp_path):
        from datasets import DatasetDict

        images = [make_image(tmp_path / "a.png")]
        numbered, plain = self.rows(images, caption=["A"], split=[0]), self.rows(images, caption=["B"])
        offer(DatasetDict({"train": numbered, "test": plain, "unsupervised": plain}))
        skipped = Skipped()
        records = list(read_captions("owner/name", "hub", None, skipped))
        assert [(record.split, record.captions) for record in records] == [("test", ["B"])]
        assert [entry["name"].removeprefix("hub:owner/name, ") for entry in skipped.entries] == [
            "split train, row 0",
            "split unsupervised",
        ]
        assert "unknown split '0'" in skipped.entries[0]["reason"]

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
        with pytest.raises(UserError, match=r"hub:owner/name: cannot be loaded .*the network and the disk space$"):
            read(Path("owner/name"), "hub")

    def test_a_local_path_is_never_taken_for_a_hub_name(self):
        with pytest.raises(UserError, match="written hub:owner/name"):
            read(Path("owner/name"))
