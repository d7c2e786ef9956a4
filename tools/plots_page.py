"""Make .dvc/plots_page.html, with which `dvc plots show` needs no network.

    npm pack vega@5.20.2 vega-lite@5.2.0 vega-embed@6.18.2      (and unpack each)
    python tools/plots_page.py VEGA_FOLDER VEGA_LITE_FOLDER VEGA_EMBED_FOLDER

DVC's own page loads these scripts, in the versions that DVC names, from a server.  All three are under the BSD 3-clause
licence, which goes into the page.
"""

from __future__ import annotations

import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / ".dvc/plots_page.html"
PAGE = """<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
{refresh_tag}
<title>DVC Plot</title>
SCRIPTS
<style>
table { border-spacing: 15px; }
</style>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def script(package: Path) -> str:
    """Return a package's minified script with its licence, as an HTML element."""
    code = (package / "build" / f"{package.name}.min.js").read_text(encoding="utf-8")
    licence = (package / "LICENSE").read_text(encoding="utf-8").strip()
    return f"<script>\n/*\n{licence}\n*/\n{code.strip()}\n</script>"


def main() -> None:
    scripts = "\n".join(script(Path(folder)) for folder in sys.argv[1:])
    TARGET.write_text(PAGE.replace("SCRIPTS", scripts), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
