"""Draws docs/demo.svg from a real run of `inv demo`: `uv run python docs/picture.py`."""

import io
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 112
# Rich's own template, without the fonts that it would fetch from elsewhere.
TEMPLATE = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def run() -> str:
    """Run the demo as in a terminal, without the bars that move."""
    env = {**os.environ, "FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(WIDTH)}
    argv = [sys.executable, "-m", "invoke", "demo"]
    done = subprocess.run(
        argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return done.stdout


def scene(output: str) -> list[str]:
    """Keep the dump, the damage, the verify that finds it and the restore; of the tables the lines that differ."""
    lines = output[output.index("$ inv db.dump") : output.index("Loaded Prisma config")].splitlines()
    return [line.rstrip() for line in lines if not (" public." in line and " same" in line)]


def main() -> None:
    """Draw it."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    for line in scene(run()):
        text = Text.from_ansi(line)
        if line.startswith("$ "):
            text.stylize("bold green")
        console.print(text, soft_wrap=False)
    console.save_svg(str(ROOT / "docs" / "demo.svg"), title="invoke-postgres", code_format=TEMPLATE)


if __name__ == "__main__":
    main()
