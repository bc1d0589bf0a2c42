"""Names from elsewhere act on no page."""

import pytest

from vision_rnn.tables import markdown_name


@pytest.mark.parametrize("name", ["flickr8k", "my_photos", "coco + flickr8k", "hub:owner/name-2.0", "Fotos (ä)"])
def test_a_plain_name_stays(name: str):
    assert markdown_name(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a](http://b)", "`a](http://b)`"),
        ("<script>", "`<script>`"),
        ("a\n\n# Results\n", "`a # Results`"),
        ("`<b>`", "`'<b>'`"),
        ("__b__", "`__b__`"),
    ],
)
def test_any_other_is_code_in_one_line(name: str, shown: str):
    assert markdown_name(name) == shown
