"""The built-in sample: real English Wikipedia articles that come with gensim, as lines of tokens.

Only running text is kept, one paragraph a line: no headings, lists, tables, references or formulas. It is
tokenised as WikiText is: case and punctuation kept, rare words as ``<unk>``. The same lines always.
"""

import bz2
import hashlib
import importlib.util
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

from embeddings.errors import InputError
from fixlm.corpus.data_set import DataSet

ARCHIVE = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
VERSION = 1
"""Part of the key of the tokenised copy: raised when the rules below change."""
MINIMUM_COUNT = 3  # in train; rarer words become <unk>, as in WikiText
MINIMUM_PARAGRAPH = 10  # tokens; shorter lines are captions and leftovers of tables
MINIMUM_ARTICLE = 150  # tokens of running text; shorter pages are disambiguations and lists
CYCLE = 14  # of 14 articles one goes to valid and one to test: 7 % each, from all over the collection

UNITS = {
    "mi": "miles",
    "sqmi": "square miles",
    "km2": "square kilometres",
    "ft": "feet",
    "acre": "acres",
    "in": "inches",
    "lb": "pounds",
    "yd": "yards",
    "PD/sqmi": "people per square mile",
}
_FORMULA = "\ufffc"
_DEBRIS = frozenset("|={}<>\\" + _FORMULA)  # a paragraph with one of these is no running text
# filter_wiki cuts out every template; these stand in the middle of sentences, so their words are kept.
_TEMPLATES = [
    (re.compile(r"<(ref|gallery|score|timeline)\b[^<>]*?(/>|>.*?</\1\s*>)", re.IGNORECASE | re.DOTALL), ""),
    (re.compile(r"<(math|chem)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL), _FORMULA),
    (re.compile(r"\{\{(?:math|val|chem|frac)\b[^{}]*\}\}", re.IGNORECASE), _FORMULA),
    (re.compile(r"\{\{(?:lang|transl)\|(?:[^{}|]+\|)+([^{}|=]+)\}\}", re.IGNORECASE), r"\1"),
    (re.compile(r"\{\{(?:lang-\w+|nowrap|nihongo|angbr|sc)\|([^{}|=]+)[^{}]*\}\}", re.IGNORECASE), r"\1"),
    (re.compile(r"\{\{(as|As) of\|(\d{4})[^{}]*\}\}"), r"\1 of \2"),
    (re.compile(r"\{\{nbsp\}\}", re.IGNORECASE), " "),
    (re.compile(r"\{\{'s\}\}"), "'s"),
]
_CONVERT = re.compile(r"\{\{(?:convert|cvt)\|([^{}|]+)\|(?:(to|and|by|-|–)\|([^{}|]+)\|)?([^{}|]+)[^{}]*\}\}")
# Sections without running text: all up to the next heading of the same level or above is left out.
_APPARATUS = re.compile(
    r"(see also|(foot|end)?notes|references|citations|sources|further reading|external links|bibliography|"
    r"works cited|selected (works|bibliography)|filmography|discography|works|publications)\b.*",
    re.IGNORECASE,
)
_HEADING = re.compile(r"\s*(={1,6})\s*(.*?)\s*=*\s*$")
_TOKEN = re.compile(
    r"(?:[^\W\d_]\.){2,}"  # U.S., i.e.
    r"|\d+(?:[.,]\d+)+(?!\w)"  # 1,234.5
    r"|\w+(?:-\w+|'(?!s\b)\w+)*|'s\b"  # words, self-governed, O'Brien, 1960s; 's by itself, as in WikiText
    r"|\.\.\.|[^\w\s]"
)
_MARKUP = [
    (re.compile(r"<[^<>]*>|__\w+__|https?://\S+"), " "),  # tags, switches, addresses
    (re.compile(r"(?<=\w)'''(?=s\b)"), "'"),  # ''Titanic'''s
    (re.compile(r"'{2,}"), ""),  # italics and bold
    (re.compile("[‘’ʼ`]"), "'"),
    (re.compile("[“”„]"), '"'),
    (re.compile("…"), "..."),
    (re.compile(r"[\u00ad\u0300-\u036f\u200b-\u200f\u2060\ufeff]"), ""),  # soft hyphens, stress, marks of direction
    # What the templates that are cut out leave behind: empty brackets, and commas with no word before them.
    (re.compile(r"([(\[])[\s,;:]+"), r"\1"),
    (re.compile(r"[\s,;:]+([)\]])"), r"\1"),
    (re.compile(r"\(\s*(?:or|and|i\.e\.|pronounced|pronunciation)?\s*\)|\[\s*\]|\"\s*\""), " "),
    (re.compile(r"\s+([,;:.])(?!\.)"), r"\1"),
    (re.compile(r"([,;:])(?:\s*[,;:])+"), r"\1"),
    (re.compile(r"[,;:]+(\.(?:\s|$))"), r"\1"),
]


def open_data_set() -> DataSet:
    """The sample; its text is built at most once, and only if there is no tokenised copy of it."""
    return DataSet.of_rows("sample", content_hash(), cache(build))


def archive() -> Path:
    """Where gensim keeps the text; found without importing gensim, which takes seconds.

    Raises:
        InputError: this gensim came without its test data.
    """
    spec = importlib.util.find_spec("gensim")
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root) / "test" / "test_data" / ARCHIVE
        if path.is_file():
            return path
    fix = "install gensim from PyPI, or give a folder: --data FOLDER"
    raise InputError("--data sample", "gensim is here without its test data, the sample's text", fix=fix)


def content_hash() -> str:
    """A hash of all that the sample's lines depend on."""
    return hashlib.sha256(f"sample {VERSION} ".encode() + archive().read_bytes()).hexdigest()


def build() -> dict[str, list[str]]:
    """The lines of 'train', 'valid' and 'test': a paragraph each, its tokens joined by spaces.

    An article is in one split as a whole.
    """
    splits: dict[str, list[list[str]]] = {"train": [], "valid": [], "test": []}
    for number, paragraphs in enumerate(articles()):
        split = {CYCLE // 2: "valid", CYCLE - 1: "test"}.get(number % CYCLE, "train")
        splits[split] += paragraphs
    counts = Counter(chain.from_iterable(splits["train"]))
    known = {word for word, count in counts.items() if count >= MINIMUM_COUNT}
    return {
        split: [" ".join(word if word in known else "<unk>" for word in line) for line in lines]
        for split, lines in splits.items()
    }


def articles() -> Iterator[list[list[str]]]:
    """The paragraphs of each article, as tokens; redirects and pages with hardly any text are left out."""
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with bz2.open(archive()) as file:
        for _, text, _ in extract_pages(file, filter_namespaces=("0",)):
            if text.lstrip().lower().startswith("#redirect"):
                continue
            paragraphs = list(running_text(filter_wiki(keep_templates(text))))
            if sum(map(len, paragraphs)) >= MINIMUM_ARTICLE:
                yield paragraphs


def keep_templates(text: str) -> str:
    """Wikitext with the words of templates that belong to a sentence, and a sign where a formula stands."""
    for pattern, replacement in _TEMPLATES:
        text = pattern.sub(replacement, text)
    return _CONVERT.sub(_measure, text)


def _measure(match: re.Match[str]) -> str:
    first, joint, second, unit = match.groups()
    amount = f"{first} {joint} {second}" if joint else first
    return f"{amount} {UNITS.get(unit.strip(), unit)}"


def running_text(text: str) -> Iterator[list[str]]:
    """The tokens of each paragraph of running text in an article that `filter_wiki` has been over."""
    for paragraph in map(clean, _paragraphs(text)):
        tokens = _TOKEN.findall(paragraph)
        ends = paragraph.rstrip("\"')]").endswith((".", "!", "?"))
        starts = re.match(r"[^\W_a-z]|[\"'(\[]", paragraph)
        if starts and ends and len(tokens) >= MINIMUM_PARAGRAPH and _DEBRIS.isdisjoint(paragraph):
            yield tokens


def _paragraphs(text: str) -> Iterator[str]:
    """Lines that are no headings, list items or parts of tables; broken lines are joined."""
    skipped = 7  # level of the heading under which all is left out; 7: none
    before = ""
    for line in text.split("\n"):
        if heading := _HEADING.match(line):
            level = len(heading[1])
            if level <= skipped:
                skipped = level if _APPARATUS.fullmatch(heading[2]) else 7
        plain = line.strip() and not heading and skipped == 7 and not line.lstrip().startswith(tuple("*#:;|!{"))
        if plain and before and line[0].islower():
            before += " " + line
        else:
            if before:
                yield before
            before = line if plain else ""
    if before:
        yield before


def clean(line: str) -> str:
    """A line without what is left of the markup."""
    line = unicodedata.normalize("NFC", line)
    for pattern, replacement in _MARKUP:
        line = pattern.sub(replacement, line)
    return line.strip()
