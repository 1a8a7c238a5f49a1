"""Tables, figures and numbers of a README that are written from results, and checked against them.

A block stands between two comments, which GitHub does not show::

    <!-- report: accuracy dataset=cifar10 columns=variant,n,accuracy -->
    …
    <!-- /report -->

Its first word is a kind of table, ``figure`` (``file=PATH.svg`` beside the README) or ``value`` (one number inside
a sentence). ``update_readmes`` writes what stands between, ``check_readme`` compares it byte for byte.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path

from resnet_spiking.errors import UserError
from resnet_spiking.reports.digest import Digest
from resnet_spiking.reports.drawing.chart import standalone
from resnet_spiking.reports.figures.catalogue import FIGURES
from resnet_spiking.reports.request import Request, parse_request
from resnet_spiking.reports.tables.catalogue import OPTIONS, make_tables, make_value
from resnet_spiking.storage.files import write_atomically

KINDS = {**OPTIONS, "figure": frozenset({"name", "file", "panel", "result"})}

_START = re.compile(r"<!-- report: (?P<request>.*?) -->")
_END = "<!-- /report -->"
_LIKE = re.compile(r"<!--\s*(?:report\s*:|/\s*report\b).*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"^ *(?P<fence>```+(?![^\n]*`)|~~~+).*?^ *(?P=fence)|`+[^`\n]+`+", re.MULTILINE | re.DOTALL)
_DIVIDER = re.compile(r"^\|[-:| ]+\|$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One marked place: ``text[start:end]`` is what the results decide; ``line`` is where the mark stands."""

    request: Request
    start: int
    end: int
    line: int


@dataclass(frozen=True)
class Difference:
    """One place where the README, or a figure's file, does not say what the results say."""

    line: int
    request: str
    what: str


@dataclass(frozen=True)
class Checked:
    """How many blocks were compared, what differs, and the lines of tables that no block marks."""

    blocks: int
    differences: list[Difference]
    unmarked: list[int]


def check_readme(path: Path, digest: Digest) -> Checked:
    """Derive every marked block again and compare.

    Raises:
        UserError: the file cannot be read, has no mark or one without an end, or asks for what the
            results do not have.
    """
    text = _read(path)
    blocks = list(find_blocks(text, path))
    differences: list[Difference] = []
    for block in blocks:
        for line, what in _compare(text[block.start : block.end], _filled(block.request, digest)):
            differences.append(Difference(block.line + line, block.request.text, what))
        for name, svg in _drawings(block.request, digest).items():
            file = path.parent / name
            if not file.is_file() or file.read_text(encoding="utf-8") != svg:
                state = "differs from what the results give" if file.is_file() else "is missing"
                differences.append(Difference(block.line, block.request.text, f"{name} {state}"))
    marked = [(block.start, block.end) for block in blocks]
    code = [match.span() for match in _CODE.finditer(text)]
    unmarked = [
        _line(text, match.start())
        for match in _DIVIDER.finditer(text)
        if not any(start <= match.start() < end for start, end in (*marked, *code))
    ]
    return Checked(len(blocks), differences, unmarked)


def update_readmes(paths: Iterable[Path], digest: Digest) -> dict[Path, int]:
    """Write every marked block of each file, and the files of its figures; return how many blocks there are.

    What stands between the blocks stays as it is, and the blocks get the line ends of the file.

    Raises:
        UserError: as ``check_readme`` for any of them, and then none is written; a file that cannot be written.
    """
    ready = [(path, *_updated(path, digest)) for path in paths]
    for path, text, drawings, _ in ready:
        for name, svg in drawings.items():
            _write(path.parent / name, svg)
        _write(path, text, newline="")
    return {path: blocks for path, _, _, blocks in ready}


def _updated(path: Path, digest: Digest) -> tuple[str, dict[str, str], int]:
    """Return what ``path`` should be, its drawings by file, and how many blocks it has."""
    text = _read(path, newline="")
    end = "\r\n" if "\r\n" in text else "\n"
    parts, last = [], 0
    drawings: dict[str, str] = {}
    blocks = list(find_blocks(text, path))
    for block in blocks:
        for name, svg in _drawings(block.request, digest).items():
            if drawings.setdefault(name, svg) != svg:
                raise UserError(f"{path}, line {block.line}: {name} is another block's file too; give each its own")
        parts += [text[last : block.start], _filled(block.request, digest).replace("\n", end)]
        last = block.end
    return "".join([*parts, text[last:]]), drawings, len(blocks)


def find_blocks(text: str, path: Path) -> Iterator[Block]:
    """Yield the blocks of a Markdown text; marks inside code show how to write one and are none."""
    code = [match.span() for match in _CODE.finditer(text)]
    found = 0
    position = 0
    marks: set[int] = set()
    while match := _START.search(text, position):
        position = match.end()
        if any(start <= match.start() < end for start, end in code):
            continue
        line = _line(text, match.start())
        end = text.find(_END, match.end())
        following = _START.search(text, match.end())
        if end < 0 or (following and following.start() < end):
            raise UserError(f"{path}, line {line}: the block {match['request']!r} has no end; write {_END} after it")
        found += 1
        marks |= {match.start(), end}
        try:
            request = parse_request(match["request"], KINDS)
        except UserError as error:
            raise UserError(f"{path}, line {line}: {error}") from None
        yield Block(request, match.end(), end, line)
        position = end + len(_END)
    for like in _LIKE.finditer(text):
        if like.start() not in marks and not any(start <= like.start() < end for start, end in code):
            raise UserError(
                f"{path}, line {_line(text, like.start())}: {like[0].split(chr(10))[0]!r} begins or ends no block; "
                f"write <!-- report: … --> on one line and {_END} after it"
            )
    if not found:
        raise UserError(f"{path} has no block to check; mark one with <!-- report: accuracy --> … {_END}")


def render(request: Request, digest: Digest) -> str:
    """Return the Markdown of a request: what ``--table`` prints, and what stands in the README."""
    if request.kind == "value":
        return make_value(digest, request)
    if request.kind == "figure":
        figure = _figure(request, digest)
        lines = [f"![{alt}]({file})" for file, (alt, _) in figure.items()]
    else:
        lines = ["\n\n".join(table.markdown() for table in make_tables(digest, request))]
    # A shell looks for more than the closing mark between double quotes.
    quoted = shlex.quote(request.text) if set(request.text) & set('"$`\\!') else f'"{request.text}"'
    return "\n".join(lines) + f"\n\n<sub>`{digest.command} --table {quoted}`</sub>"


def _filled(request: Request, digest: Digest) -> str:
    """Return what stands between the marks: a value inside its sentence, all else on lines of its own."""
    return render(request, digest) if request.kind == "value" else f"\n{render(request, digest)}\n"


def _drawings(request: Request, digest: Digest) -> dict[str, str]:
    return {} if request.kind != "figure" else {file: svg for file, (_, svg) in _figure(request, digest).items()}


def _figure(request: Request, digest: Digest) -> dict[str, tuple[str, str]]:
    """Return file → (alternative text, SVG) of each panel of the figure asked for."""
    name, file = "".join(request.option("name")), "".join(request.option("file"))
    if name not in FIGURES or not file.endswith(".svg"):
        raise UserError(f"the request {request.text!r} needs name=NAME and file=PATH.svg; names: {', '.join(FIGURES)}")
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise UserError(f"the request {request.text!r} names a file elsewhere; give a PATH.svg below the README")
    figure = FIGURES[name](digest.only(request, KINDS["figure"]))
    wanted = "".join(request.option("panel"))
    panels = [panel for panel in figure.panels if wanted in panel.name and panel.drawing.startswith("<svg")]
    if not panels:
        names = "; ".join(panel.name for panel in figure.panels)
        raise UserError(f"the request {request.text!r} gives no drawing: {figure.absent or 'panels are ' + names}")
    stem = file.removesuffix(".svg")
    return {
        file if len(panels) == 1 else f"{stem}-{index}.svg": (
            f"{figure.title}: {panel.name}",
            standalone(panel.drawing),
        )
        for index, panel in enumerate(panels, 1)
    }


def _compare(written: str, derived: str) -> Iterator[tuple[int, str]]:
    """Yield (line within the block, what differs), cell by cell where both lines are of a table."""
    old, new = written.split("\n"), derived.split("\n")
    for _, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if old[a:b] == new[c:d]:
            continue
        for offset, (before, after) in enumerate(zip_longest(old[a:b], new[c:d])):
            if after is None:
                yield a + offset, f"not in the results: {before!r}"
            elif before is None:
                yield a + offset, f"missing: {after!r}"
            else:
                for what in _differing(before, after, _heading(new, c + offset)):
                    yield a + offset, what


def _differing(before: str, after: str, heading: list[str]) -> Iterator[str]:
    old, new = _cells(before), _cells(after)
    if new and len(old) == len(new) == len(heading) and old != new:
        for name, a, b in zip(heading, old, new, strict=True):
            if a != b:
                yield f"row {new[0].strip('*')}, {name}: written {a}, the results give {b}"
    else:
        yield f"written {before!r}, the results give {after!r}"


def _heading(lines: list[str], index: int) -> list[str]:
    """Return the cells of the first line of the table that line ``index`` is in."""
    while index > 0 and lines[index - 1].startswith("|"):
        index -= 1
    return _cells(lines[index])


def _cells(line: str) -> list[str]:
    if not line.startswith("|"):
        return []
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _read(path: Path, newline: str | None = None) -> str:
    try:
        with path.open(newline=newline, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path} cannot be read; name a Markdown file") from None


def _write(path: Path, text: str, newline: str | None = None) -> None:
    # A link stays one, and who may read the file may still.
    place = path.resolve()

    def write(temporary: Path) -> None:
        temporary.write_text(text, newline=newline, encoding="utf-8")
        if place.exists():
            temporary.chmod(place.stat().st_mode)

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists() and not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        write_atomically(place, write)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); name a file in a folder that can be made and written"
        ) from None


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
