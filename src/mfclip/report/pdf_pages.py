"""A4 pages for a report: text, tables, the scale of a verdict, pictures; drawn with fpdf2."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mfclip.card import Bands, Verdict
from mfclip.errors import require
from mfclip.predict.prediction import Box
from mfclip.report.views import View
from mfclip.report.wording import Rows

MARGIN, WIDTH, BOTTOM = 18.0, 174.0, 277.0
"""Left edge, width and lower end of what is printed on an A4 page, millimetres."""

COLOURS: dict[Verdict, tuple[int, int, int]] = {
    "real": (143, 211, 171),
    "uncertain": (217, 221, 226),
    "fake": (242, 164, 147),
}
"""Of the bands on the scale, RGB."""

INK, SOFT, MARK, LINE = (20, 22, 26), (85, 93, 104), (255, 212, 0), (205, 210, 216)
"""Text, remarks, frames, lines of tables; RGB."""

PER_ROW = 5
"""Pictures in one row."""


class Pages:
    """A4 pages that are filled from top to bottom; positions in millimetres."""

    def __init__(self, title: str) -> None:
        fpdf = require("fpdf", extra="report")

        class Numbered(fpdf.FPDF):  # type: ignore[misc, name-defined]
            def footer(page) -> None:  # noqa: N805 - `self` is the document around it
                page.set_y(-12)
                page.set_font(self._family, size=8)
                page.set_text_color(*SOFT)
                page.cell(0, 5, self._fit(f"{title}, page {page.page_no()} of {{nb}}"), align="R")

        self._pdf = Numbered(format="A4")
        self._family = _add_fonts(self._pdf)
        self._pdf.set_margins(MARGIN, 16, MARGIN)
        self._pdf.set_auto_page_break(True, 20)
        self._pdf.set_title(self._fit(title))
        self._pdf.set_lang("en")
        self._pdf.add_page()

    def finish(self) -> bytes:
        """Return the document."""
        return bytes(self._pdf.output())

    def gap(self, height: float) -> None:
        """Leave space."""
        self._pdf.ln(height)

    def keep_together(self, height: float) -> None:
        """Go to the next page unless so much is left on this one."""
        if self._pdf.get_y() + height > BOTTOM:
            self._pdf.add_page()

    def heading(self, text: str, follow: float = 15.0) -> None:
        """Write the heading of a section, on the page of what follows, so many millimetres high."""
        self.keep_together(15.0 + follow)
        self.gap(4.0)
        self.text(text, size=14.0, bold=True)

    def text(
        self,
        text: str,
        *,
        size: float,
        bold: bool = False,
        colour: tuple[int, int, int] = INK,
    ) -> None:
        """Write a paragraph."""
        self._pdf.set_font(self._family, style="B" if bold else "", size=size)
        self._pdf.set_text_color(*colour)
        self._pdf.multi_cell(
            WIDTH, size * 0.48, self._fit(text), new_x="LMARGIN", new_y="NEXT", align="L"
        )
        self.gap(0.8)

    def box(self, text: str) -> None:
        """Write a remark that must not be missed."""
        self.gap(1.0)
        self._pdf.set_font(self._family, size=9.5)
        self._pdf.set_text_color(*INK)
        self._pdf.set_fill_color(255, 246, 214)
        self._pdf.multi_cell(
            WIDTH, 5, self._fit(text), fill=True, new_x="LMARGIN", new_y="NEXT", align="L",
            padding=1.5,
        )  # fmt: skip
        self.gap(1.0)

    def rows(self, rows: Rows) -> None:
        """Write terms and texts, side by side."""
        self.table(None, [list(row) for row in rows], widths=(30.0, WIDTH - 30.0))

    def table(
        self,
        head: Sequence[str] | None,
        lines: Sequence[Sequence[str]],
        widths: Sequence[float] | None = None,
    ) -> None:
        """Write a table; nothing if it has no lines."""
        if not lines:
            return
        self._pdf.set_font(self._family, size=8.5)
        self._pdf.set_text_color(*INK)
        self._pdf.set_fill_color(255)
        self._pdf.set_draw_color(*LINE)
        count = len(lines[0])
        widths = widths or (70.0, *[(WIDTH - 70) / (count - 1)] * (count - 1))
        with self._pdf.table(
            col_widths=tuple(widths), first_row_as_headings=head is not None, text_align="LEFT",
            borders_layout="HORIZONTAL_LINES", line_height=4.4, padding=0.6, width=WIDTH,
        ) as table:  # fmt: skip
            for line in [*([head] if head else []), *lines]:
                row = table.row()
                for cell in line:
                    row.cell(self._fit(cell))
        self.gap(2.0)

    def scale(self, score: float, bands: Bands) -> None:
        """Draw the bands from 0 to 1 and the score on them."""
        left, top, width, height = MARGIN, self._pdf.get_y() + 1.5, 100.0, 5.0
        self._pdf.set_font(self._family, size=7)
        self._pdf.set_text_color(*INK)
        for verdict, start, end in _zones(bands):
            self._pdf.set_fill_color(*COLOURS[verdict])
            self._pdf.set_xy(left + width * start, top)
            self._pdf.cell(width * (end - start), height, verdict, fill=True, align="C")
        self._pdf.set_fill_color(*INK)
        self._pdf.rect(left + width * score - 0.5, top - 1.2, 1.0, height + 2.4, style="F")
        self._pdf.set_xy(MARGIN, top + height + 2)

    def course(self, points: Sequence[tuple[float, float]], bands: Bands) -> None:
        """Draw scores over time on the bands, 1 on top; nothing for a single one."""
        if len(points) < 2:  # noqa: PLR2004
            return
        top, height, left, width = self._pdf.get_y() + 1, 20.0, MARGIN, WIDTH
        for verdict, start, end in _zones(bands):
            self._pdf.set_fill_color(*COLOURS[verdict])
            self._pdf.rect(left, top + height * (1 - end), width, height * (end - start), style="F")
        first, last = points[0][0], points[-1][0]
        unit = width / max(last - first, 1e-9)
        places = [(left + (t - first) * unit, top + height * (1 - score)) for t, score in points]
        self._pdf.set_draw_color(*INK)
        self._pdf.set_line_width(0.4)
        self._pdf.polyline(places)
        self._pdf.set_line_width(0.2)
        self._pdf.set_xy(MARGIN, top + height + 0.5)
        caption = f"Score over time, from {first:.1f} to {last:.1f} seconds; top = 1, fake."
        self.text(caption, size=7.0, colour=SOFT)

    def pictures(self, views: Sequence[View]) -> None:
        """Place pictures in rows, each with its caption below."""
        step = WIDTH / PER_ROW
        side = step - 3
        for first in range(0, len(views), PER_ROW):
            self.keep_together(side + 14)
            top = self._pdf.get_y() + 1
            ends = [
                self._picture(view, MARGIN + place * step, top, side)
                for place, view in enumerate(views[first : first + PER_ROW])
            ]
            self._pdf.set_xy(MARGIN, max(ends) + 1.5)

    def _picture(self, view: View, left: float, top: float, side: float) -> float:
        """Place one picture, as large as fits a square, and return where its caption ends."""
        width, height = view.size
        unit = side / max(width, height)
        self._pdf.image(
            io.BytesIO(view.data), left, top, width * unit, height * unit, alt_text=view.caption
        )
        if view.frame:
            self._frame(view.frame, left, top, unit)
        self._pdf.set_font(self._family, size=7)
        self._pdf.set_text_color(*SOFT)
        self._pdf.set_xy(left, top + height * unit + 0.8)
        self._pdf.multi_cell(side, 3, self._fit(view.caption), align="L", new_y="NEXT")
        end: float = self._pdf.get_y()
        return end

    def _frame(self, frame: Box, left: float, top: float, unit: float) -> None:
        self._pdf.set_draw_color(*MARK)
        self._pdf.set_line_width(0.7)
        place = (frame.left * unit, frame.top * unit)
        size = (frame.width * unit, frame.height * unit)
        self._pdf.rect(left + place[0], top + place[1], *size)
        self._pdf.set_line_width(0.2)

    def _fit(self, text: str) -> str:
        """Replace characters that the font lacks: plain ones where they exist, else their code."""
        glyphs = getattr(self._pdf.fonts.get(self._family.lower()), "cmap", None)
        return "".join(c if _has(glyphs, c) else _spell(c, glyphs) for c in text)


def _zones(bands: Bands) -> list[tuple[Verdict, float, float]]:
    """Return where each verdict begins and ends on the scale, leaving out those without room."""
    high = min(bands.fake_from, 1.0)
    ends: list[tuple[Verdict, float, float]] = [
        ("real", 0.0, bands.real_below),
        ("uncertain", bands.real_below, high),
        ("fake", high, 1.0),
    ]
    return [zone for zone in ends if zone[2] > zone[1]]


def _add_fonts(pdf: Any) -> str:
    """Take DejaVu where matplotlib brings it along, for its letters of many alphabets."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return "Helvetica"
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    if not (folder / "DejaVuSans.ttf").is_file():
        return "Helvetica"
    pdf.add_font("DejaVu", "", folder / "DejaVuSans.ttf")
    pdf.add_font("DejaVu", "B", folder / "DejaVuSans-Bold.ttf")
    return "DejaVu"


def _has(glyphs: Mapping[int, Any] | None, character: str) -> bool:
    if glyphs is not None:
        return ord(character) in glyphs
    return ord(character) < 256  # noqa: PLR2004 - the core fonts hold Latin-1


def _spell(character: str, glyphs: Mapping[int, Any] | None) -> str:
    plain = unicodedata.normalize("NFKD", character)
    kept = "".join(c for c in plain if _has(glyphs, c))
    return kept or f"<U+{ord(character):04X}>"
