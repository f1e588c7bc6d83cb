"""Write the server's OpenAPI schema to docs/openapi.json. With --check, fail if it is out of date."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path

from moee import MoEE
from moee.serve.app import create_app
from moee.serve.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"


def schema() -> str:
    """Return the schema; it depends on no setting and on no model."""
    app = create_app(MoEE.from_pretrained("fake", calibration="none"), Settings())
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check the file; return the exit code."""
    wanted = schema()
    found = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if found == wanted:
        return 0
    lines = difflib.unified_diff(found.splitlines(), wanted.splitlines(), "docs/openapi.json", "the code", lineterm="")
    print("\n".join(lines), file=sys.stderr)
    print("docs/openapi.json is out of date. Run: make docs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
