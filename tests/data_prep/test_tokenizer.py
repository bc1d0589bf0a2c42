"""The tokenizer against known tokens of the Java program and, on all of Flickr8k, against the program itself."""

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.tokenizer import _tokenize, tokenize


# All expected tokens come from the Java tokenizer of the COCO caption evaluation.
@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man riding a wave.", "a man riding a wave"),
        ("A dog runs .It is brown .", "a dog runs it is brown"),
        ("A dog runs. It is brown.", "a dog runs it is brown"),
        ("two\nlines", "two lines"),
        ("...", ""),
        ("", ""),
        ("wait.... what ?", "wait what"),
        ("wow!! what?! no!", "wow !! what ?! no"),
        ("a snow-covered hill - with trees -- and -odd pre- words", "a snow-covered hill with trees and odd pre words"),
        ("red and/or black/white", "red and/or black/white"),
        ("he / she w/", "he / she w /"),
        ("I cannot see; it can't run, we're gonna", "i can not see it ca n't run we 're gon na"),
        ("a man's dogs' bowl", "a man 's dogs bowl"),
        ("It is the ski's.", "it is the ski 's"),
        ("An ant 's-eye-view", "an ant 's eye-view"),
        ("a slip 'n' slide in the '80s", "a slip 'n' slide in the '80s"),
        ("she says 'go' and \"stop\"", "she says go and stop"),
        ("a boy\u2019s \u201cred\u201d hat \u2013 or cap\u2026", "a boy 's red hat or cap"),
        ("Mr. Hill stands on Main St. in Washington D.C.", "mr. hill stands on main st. in washington d.c."),
        ("at 5 p.m. in Oct., player No. 7 says no.", "at 5 p.m. in oct. player no. 7 says no"),
        ("a Texas A&M shirt, black & white", "a texas a&m shirt black & white"),
        ("$20.50, 1,000 men, 50% at 10:30", "$ 20.50 1,000 men 50 % at 10:30"),
        ("x=y and RIF=ding", "x = y and rif = ding"),
        ("a dog (brown) [big]", "a dog -lrb- brown -rrb- -lsb- big -rsb-"),
        ("Miss. Kay of Mass. won't miss. Sen. Lee, est. 1990", "miss. kay of mass. wo n't miss sen. lee est. 1990"),
        ("fig. 5 is no fig. tree", "fig. 5 is no fig tree"),
        ("a <unk> dog, <start> 3 < 4", "a <unk> dog <start> 3 < 4"),
        ("tom &amp; jerry, R&amp;B, it&apos;s &lt; 3", "tom & jerry r&b it 's < 3"),
        ("\u00bd cup at 30\u00b0C for \u20ac5 or 5\u00a2", "1/2 cup at 30 \u00b0 c for $ 5 or 5 cents"),
        ("\u00abred\u00bb dog \U0001f436 \u2605 star", "red dog \u2605 star"),
        ("at 10:30am, -5 degrees", "at 10:30 am -5 degrees"),
        ("get 'em 'til y'all see somethin' else", "get 'em 'til y' all see somethin' else"),
        ("'twas o'clock in Hawai'i, gov't of O'Neil", "'t was o'clock in hawai'i gov t of o'neil"),
        ("a 6'2\" man", "a 6 2 man"),
        ("smile :) ;-) :D =P", "smile :-rrb- ;--rrb- :d =p"),
        ("@home #tag me@x.org see http://x.org/y?z=1.", "@home #tag me@x.org see http://x.org/y?z=1"),
        ("*** stars *** # 1 ##", "*** stars *** # 1 ##"),
        ("C# and c++ on x|y", "c# and c++ on x | y"),
    ],
)
def test_known_tokens(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens.split()


# Words for which the rules give other tokens than the word, alone or before a period.
WORDS = st.sampled_from(["a", "Dog", "cannot", "gonna", "Wanna", "St", "mr", "no", "etc", "vs", "i", "US"])


@given(
    st.lists(WORDS), st.sampled_from(["", ".", " .", ". ", " . \n", "..", ". ."]), st.sampled_from([" ", "  ", "\n"])
)
def test_plain_captions_are_cut_as_by_the_rules(words: list[str], end: str, space: str) -> None:
    caption = space.join(words) + end
    assert tokenize(caption) == _tokenize(caption)


@pytest.mark.data
def test_all_captions_of_flickr8k_are_cut_as_by_the_rules(flickr8k: Path) -> None:
    captions = _captions(flickr8k)
    assert [caption for caption in captions if tokenize(caption) != _tokenize(caption)] == []


@given(st.text())
def test_any_text_gives_lower_case_tokens_without_space(caption: str) -> None:
    for token in tokenize(caption):
        assert token
        assert not re.search(r"\s", token)
        assert token == token.lower()


@given(st.lists(st.from_regex(r"[a-z]+(-[a-z]+)?", fullmatch=True)))
def test_no_hyphenated_word_is_lost(words: list[str]) -> None:
    assert "".join(tokenize(" ".join(words))) == "".join(words)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.java
@pytest.mark.skipif(shutil.which("java") is None, reason="the reference tokenizer needs a Java runtime")
def test_no_flickr8k_caption_differs_from_the_java_tokenizer(flickr8k: Path) -> None:
    ptbtokenizer = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer", reason="the oracle is not installed")
    captions = _captions(flickr8k)
    # As in the data set (with separate periods), and as usually written: attached punctuation, two sentences each.
    written = [re.sub(r" ([.,;:?!)]|'s\b)", r"\1", caption.replace("( ", "(")) for caption in captions]
    captions += [f"{first} {second}" for first, second in zip(written[::2], written[1::2], strict=False)]
    captions += _captions(flickr8k, "Flickr8k.lemma.token.txt")

    expected = ptbtokenizer.PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(captions)})

    assert len(expected) == len(captions)
    assert [text for i, text in enumerate(captions) if " ".join(tokenize(text)) != expected[i][0]] == []


def _captions(flickr8k: Path, listing: str = "Flickr8k.token.txt") -> list[str]:
    path = flickr8k / "Flickr8k_text" / listing
    return [line.split("\t", 1)[1] for line in path.read_text(encoding="utf-8").splitlines()]
