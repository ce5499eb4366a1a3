"""The text of the repository uses plain technical words: each archaic one has a substitute."""

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import ROOT

WORDS = {
    r"(?<!here )\b(is|are|was|were) none\b": "name what is invalid or missing: an invalid URL",
    r"(?<!there )\b(is|are|was|were) no (?!longer|less|more|better|fewer|(old|wid|lat|high)er|aim)[a-z]+": "is not a",
    r"\bmakes? no sense\b": "is invalid",
    r"\b(has|have) to\b": "must, need to",
    r"\bso (many|long)\b(?! as)": "that many, that long",
    r"\b(is|are|was|were) (told|said)\b(?! to\b)": "is reported, logged, returned",
    r"\bunless told\b": "by default",
    r"(?<!@)\b(strikes?|struck|striking)\b": "hit, act at",
    r"\bsomebody\b": "a process, a client, a user: say which",
    r"\b(he|his|him)\b": "it, its: a process is a thing",
    r"\b(robbed|colleague|doomed|dooms)\b": "lost its tasks, another worker, must fail",
    r"\bwho(ever|m)\b": "a worker that, the client that",
    r"\bthe dead\b(?![ -](letter|worker|set|one))": "dead workers",
    r"\bhonest(ly)?\b": "say what is reported",
    r"(?<!-)\banew\b": "again",
    r"\bfor ever\b": "forever",
    r"\bsave (that|for|in|where|while|by|as)\b": "except",
    r"\b(whence|thereof|whereof|naught|befalls?)\b": "a word of this century",
}
# Data, output of runs, the changelog, and this list of words.
LEFT_OUT = re.compile(
    r"\.(json|svg|css)$|^docs/(bench|comparison|specification)\.md$|^(CHANGELOG\.md|LICENSE|tests/docs/test_words\.py)$"
)
COMMENT = {".js": "//", ".mjs": "//", ".go": "//", ".rb": "#"}


def text_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the prose of a file by line; in Python: comments, strings and names of tests."""
    text = path.read_text()
    if path.suffix == ".py":
        yield from text_of_python(text)
    elif mark := COMMENT.get(path.suffix):
        yield from ((number, line.partition(mark)[2]) for number, line in enumerate(text.splitlines(), 1))
    else:
        plain = re.sub(r"`[^`\n]*`|\{[{%].*?[}%]\}|<[^>\n]*>", "", text)  # without code and markup
        yield from enumerate(plain.splitlines(), 1)


def text_of_python(text: str) -> Iterator[tuple[int, str]]:
    """Yield the prose of a Python file. Strings without a space, and words in backticks, count as names."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            if token.string.startswith("test_"):
                yield token.start[0], token.string.replace("_", " ")
        elif token.type not in (tokenize.OP, tokenize.NUMBER) and " " in token.string:
            for number, line in enumerate(token.string.splitlines(), token.start[0]):
                yield number, re.sub(r"\{[^{}]*\}|`[^`]*`", "", line)


def unwanted(path: Path) -> list[str]:
    """Return each unwanted word of a file, with its line and a replacement."""
    found = []
    for number, line in text_of(path):
        for word, instead in WORDS.items():
            flags = 0 if "none" in word else re.IGNORECASE  # "is None" is Python
            found += [f"{path}:{number}: {one[0]!r}: {instead}" for one in re.finditer(word, line, flags)]
    return found


def test_the_text_of_the_repository_has_no_archaic_word() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.splitlines() if not LEFT_OUT.search(name)]
    assert len(paths) > 500, "nothing is read"
    assert [word for path in paths if path.is_file() for word in unwanted(path)] == []


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.py", 'def test_a_url_that_is_none():\n    """It has to run."""', ["is none", "has to"]),
        ("b.py", "x = 'struck'  # what was struck\ny = f'{struck} so many'", ["struck", "so many"]),
        ("c.md", "Somebody\nwaits for ever, `for ever`.", ["Somebody", "for ever"]),
        ("d.mjs", "const struck = 1; // until he comes", ["he"]),
    ],
)
def test_an_archaic_word_is_found_in_text_and_not_in_code(
    tmp_path: Path, name: str, text: str, found: list[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert [line.split(": ")[1].strip("'") for line in unwanted(tmp_path / name)] == found
