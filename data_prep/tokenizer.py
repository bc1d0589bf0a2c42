"""Caption tokens as the COCO caption evaluation makes them, without its Java program.

The evaluation (X. Chen et al., "Microsoft COCO Captions", 2015, arXiv:1504.00325, section 3.1) runs Stanford's Penn
Treebank tokenizer on the cased caption, lowers the result and drops a list of punctuation tokens. Here nltk's Penn
Treebank tokenizer takes its place, and the rules below undo the differences between the two. Differences known to
remain: names of US states ("Ill."), "@home", "#tag", emoticons, web addresses, "&amp;" and signs such as "½" or "°".
"""

import re
import string

from nltk.tokenize import NLTKWordTokenizer

# The evaluation drops "-LRB-" only in capitals, after lowering: round brackets stay, as "-lrb-". So they do here.
_DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

# Curly quotes, dashes and the ellipsis, as the Java tokenizer rewrites them.
_TO_ASCII = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "--", "\u2014": "--", "\u2026": "..."}
)

_ABBREVIATIONS = (
    r"mr|mrs|ms|dr|ph\.d|jr|sr|prof|rev|gov|capt|col|gen|lt|sgt|st|mt|ft|ave|blvd|rd|inc|co|corp|ltd|bros|dept|univ|vs|etc"
    r"|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|tues|wed|thu|thurs|fri"
)

# Tokens that nltk would cut, or whose stop it would take for the end of the sentence.
_KEPT_WHOLE = re.compile(
    rf"""(
        (?<![\w.']) (?:[a-z]\.)+ (?!\w)             # D.C.  p.m.
      | (?<![\w.']) (?:{_ABBREVIATIONS})\. (?!\w)   # Mr.
      | \b no\. (?=\s*\d)                           # No. 7
      | (?-i:\b [A-Z]+&[A-Z]+)                      # A&M
      | 'n'                                         # slip 'n' slide
      | (?<!\w) '\d\ds? (?![\w.])                   # '09
      | [?!]{{2,}}                                  # !!
      | -[lr][rsc]b-                                # a bracket that was tokenized before
    )""",
    re.VERBOSE | re.IGNORECASE,
)

# Marks that nltk would leave attached to a word.
_SEPARATED = re.compile(
    r"""
        \.(?!\w) | (?<!\w)\.(?!\d)                 # a stop that is not inside a word or a number
      | (?<!\w)[-/] | [-/](?!\w) | (?<='s)-         # a hyphen or slash that does not join two words
      | [=+]
    """,
    re.VERBOSE | re.IGNORECASE,
)

_TREEBANK = NLTKWordTokenizer()

# Most captions are nothing but words, perhaps with a stop behind: these are cut at their spaces, many times as fast.
_PLAIN = re.compile(r"[A-Za-z\s]*\.?\s*", re.ASCII)
_CONTRACTED = frozenset(["cannot", "gimme", "gonna", "gotta", "lemme", "wanna"])
_STOPPED = frozenset(f"{word}." for word in (*_ABBREVIATIONS.split("|"), *string.ascii_lowercase))


def tokenize(caption: str) -> list[str]:
    """Cut a caption into lower-case Penn Treebank tokens without punctuation.

    Args:
        caption: Any text; a line break counts as a space.

    Returns:
        The tokens; none for a caption without words.
    """
    if _PLAIN.fullmatch(caption):
        *words, last = caption.lower().split() or [""]
        if _CONTRACTED.isdisjoint([*words, last.removesuffix(".")]) and last not in _STOPPED:
            return [*words, last.removesuffix(".")] if last.strip(".") else words
    return _tokenize(caption)


def _tokenize(caption: str) -> list[str]:
    """Do so by the rules, whatever the caption."""
    tokens: list[str] = []
    for index, piece in enumerate(_KEPT_WHOLE.split(caption.translate(_TO_ASCII))):
        if index % 2:  # `split` puts what the pattern's group matched at the odd places.
            tokens.append(piece)
        else:
            tokens += _TREEBANK.tokenize(_SEPARATED.sub(r" \g<0> ", piece), convert_parentheses=True)
    return [token.lower() for token in tokens if token not in _DROPPED]
