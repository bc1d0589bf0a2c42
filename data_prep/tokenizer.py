"""Tokenizer that gives the same tokens as the COCO caption evaluation, without its Java program.

The evaluation (X. Chen et al., "Microsoft COCO Captions", 2015, arXiv:1504.00325, section 3.1) runs Stanford's Penn
Treebank tokenizer on the cased caption, lowercases the result and drops a list of punctuation tokens. This module uses
nltk's Penn Treebank tokenizer instead, and the rules below remove the differences between the two. The known remaining
differences concern texts that are not captions: file names, program code, telephone numbers, fractions of fractions.
"""

import re
import string

from nltk.tokenize import NLTKWordTokenizer

# The evaluation drops "-LRB-" only in capitals, but after lowercasing, so that round brackets stay as "-lrb-", as here.
_DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

# Characters that the Java tokenizer rewrites, with a space on either side of those that it separates.
_REWRITTEN = {
    **dict.fromkeys(["\u2018", "\u2019"], "'"),
    **dict.fromkeys(["\u201b", "\u2032"], " ' "),
    **dict.fromkeys(["\u201c", "\u201d"], '"'),
    **dict.fromkeys(["\u00ab", "\u00bb", "\u2039", "\u203a"], ' " '),
    **dict.fromkeys(["\u2013", "\u2014", "\u2015"], " -- "),
    **dict.fromkeys(["\u200b", "\ufffd", "&nbsp;"], " "),
    **{
        sign: f" {sign} "
        for sign in "\u00a9\u00ae\u2122\u00b0\u00a7\u00bf\u00a1\u00b7\u00b1\u00b2\u00b3\u00b4\u00d7\u2022\u2605|^~\\"
    },
    "\u2026": " ... ",
    "\u00ad": "",
    "\u00bc": " 1/4 ",
    "\u00bd": " 1/2 ",
    "\u00be": " 3/4 ",
    "\u2153": " 1/3 ",
    "\u00a3": " # ",
    "\u20ac": " $ ",
    "\u00a2": " cents ",
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
    "&quot;": '"',
    "&apos;": "'",
}
# The Java tokenizer does not know emoji, which exceed the 16 bits of a Java character.
_REWRITES = re.compile("|".join([*map(re.escape, _REWRITTEN), "[\U00010000-\U0010ffff]"]))

_ABBREVIATIONS = (
    r"mr|mrs|ms|dr|drs|ph\.d|jr|sr|esq|messrs|mme|mlle|prof|rev|hon|gov|pres|sen|rep|atty|capt|cmdr|col|cpl|det|gen|insp"
    r"|lt|maj|adm|pvt|sgt|supt|st|ste|mt|ft|ave|blvd|bldg|rd|ct|sq|inc|co|cos|corp|ltd|plc|bros|assn|assoc|bhd|cie|ind|intl"
    r"|mfg|natl|dept|univ|vs|cf|al|est|ext|tel|etc"
    r"|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|tues|wed|thu|thurs|fri"
)
_STATES = (
    r"Ala|Ariz|Ark|Calif|Colo|Conn|Dak|Del|Fla|Ga|Ill|Kan|Kans|Ky|La|Mass|Md|Mich|Minn|Miss|Mo|Mont|Neb|Nev|Okla|Ore|Pa|PA"
    r"|Penn|Tenn|Tex|Va|Vt|Wash|Wis|Wisc|Wyo"
)

# Tokens that nltk would split, or whose period it would take for the end of the sentence.
_KEPT_WHOLE = re.compile(
    rf"""(
        (?<![\w.']) (?:[a-z]\.)+ (?!\w)             # D.C.  p.m.
      | (?<![\w.']) (?:{_ABBREVIATIONS})\. (?!\w)   # Mr.
      | (?-i:\b (?:{_STATES})\. (?!\w))             # Ill.
      | \b (?:nos?|figs?|art|pp|op|ca)\. (?=\s*\d)  # No. 7
      | (?-i:\b [A-Z]+&[A-Z]+)                      # A&M
      | 'n'                                         # slip 'n' slide
      | (?<!\w) '\d\ds? (?![\w.])                   # '09
      | (?<![\w']) ' (?:em|till?|cause)\b           # 'em
      | \b (?:ol|somethin|y)'                       # ol' dog  y'all
      | (?<![\w']) 't(?=(?:is|was)\b)               # 'tis
      | [?!]{{2,}} | \*{{2,}} | \#{{2,}}            # !!
      | -[lr][rsc]b-                                # a bracket that was tokenized before
      | </?[a-z]+>                                  # <unk>
      | https?://[^\s<>"]*[\w/]                     # https://example.com
      | (?<![\w.]) [\w.]+@[\w-]+(?:\.[\w-]+)*       # me@example.com
      | (?<!\w) (?:@[a-z]\w* | \#[a-z]+)            # @home  #tag
      | \b c(?:\#|\+\+)                             # C#
      | (?: (?<![\w.-])- | \+ ) \.?\d+(?:[.,]\d+)*  # -5
      | (?-i: \b (?:US|C|A)\$)                      # US$
      | (?-i: [<>]?[:;=]['-]?(?:[()DP](?!\w) | [\]\[{{]) | >_< | (?<!\w)-_-(?!\w))   # :-)
    )""",
    re.VERBOSE | re.IGNORECASE,
)

# Punctuation that nltk would leave attached to a word.
_SEPARATED = re.compile(
    r"""
        \.(?!\w) | (?<!\w)\.(?!\d)                 # a stop that is not inside a word or a number
      | (?<!\w)[-/] | [-/](?!\w) | (?<='s)-         # a hyphen or slash that does not join two words
      | (?<=\d)'(?=\d)                             # 5'10"
      | (?<=:\d\d)(?=[a-z])                        # 10:30am
      | (?<=\w\w)(?<!n(?='t\b))(?<![aeiouy](?='[aeiou]))'(?=[a-z])(?!(?:s|m|d|ll|re|ve|n|l|ry)\b)   # gov't
      | [=+]
    """,
    re.VERBOSE | re.IGNORECASE,
)

_TREEBANK = NLTKWordTokenizer()

# Most captions contain only words and perhaps a final period: splitting them at spaces is many times faster.
_PLAIN = re.compile(r"[A-Za-z\s]*\.?\s*", re.ASCII)
_CONTRACTED = frozenset(["cannot", "gimme", "gonna", "gotta", "lemme", "wanna"])
_STOPPED = frozenset(
    f"{word}." for word in (*_ABBREVIATIONS.split("|"), *_STATES.lower().split("|"), *string.ascii_lowercase)
)


def tokenize(caption: str) -> list[str]:
    """Split a caption into lower-case Penn Treebank tokens without punctuation.

    Args:
        caption: Text of the caption; a line break counts as a space.

    Returns:
        Tokens of the caption; an empty list for a caption without words.
    """
    if _PLAIN.fullmatch(caption):
        *words, last = caption.lower().split() or [""]
        if _CONTRACTED.isdisjoint([*words, last.removesuffix(".")]) and last not in _STOPPED:
            return [*words, last.removesuffix(".")] if last.strip(".") else words
    return _tokenize(caption)


def _tokenize(caption: str) -> list[str]:
    """Tokenize any caption by the full rules."""
    tokens: list[str] = []
    rewritten = _REWRITES.sub(lambda match: _REWRITTEN.get(match[0], " "), caption)
    for index, piece in enumerate(_KEPT_WHOLE.split(rewritten)):
        if index % 2:  # `split` puts the matches of the pattern's group at odd indices.
            tokens.append(piece.replace("(", "-lrb-").replace(")", "-rrb-"))
        else:
            tokens += _TREEBANK.tokenize(_SEPARATED.sub(r" \g<0> ", piece), convert_parentheses=True)
    return [token.lower() for token in tokens if token not in _DROPPED]
