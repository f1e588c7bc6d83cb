"""Count in how many free sentences each word stands, for the lexical view's built-in frequencies.

    python scripts/make_document_frequencies.py sentences.jsonl.gz src/moee/data/document_frequencies.txt.gz

Input: one JSON object a line with `text`; the first `COUNT` are counted. Output: the number of sentences on the first
line, then a word and its count on each line, the most frequent words first. Words that stand in one sentence only are
left out: they weigh nearly as much as unknown words, and would make the file twice as large. The same input gives the
same bytes. Run it again whenever `moee.method.lexical.words` changes.
"""

from __future__ import annotations

import argparse
import gzip
import json
from itertools import islice
from pathlib import Path

from moee.method.lexical import count_documents

COUNT = 40_000
LEAST = 2


def frequencies(sentences: Path) -> str:
    """Return the content of the file, counted over the sentences of another."""
    with gzip.open(sentences, "rt", encoding="utf-8") as lines:
        counts, num_texts = count_documents(json.loads(line)["text"] for line in islice(lines, COUNT))
    kept = sorted((-count, word) for word, count in counts.items() if count >= LEAST)
    return f"{num_texts}\n" + "".join(f"{word} {-count}\n" for count, word in kept)


def main() -> None:
    """Read, count and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    # mtime 0: the bytes depend on the sentences alone
    arguments.target.write_bytes(gzip.compress(frequencies(arguments.source).encode(), compresslevel=9, mtime=0))


if __name__ == "__main__":
    main()
