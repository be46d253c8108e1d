import re
from html.parser import HTMLParser

import numpy as np
import pytest

from mfclip.datasets.audit import ALL, FEATURES, SPECTRUM_BINS, Audit, Cell
from mfclip.datasets.audit_report import render_report

VOID = {"meta", "br", "path", "use", "rect", "image"}


class _Balance(HTMLParser):
    """Keep the stack of open elements."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, _: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def _audit(generator: str = "GAN <1>", auc: float = 0.97) -> Audit:
    cells = tuple(
        Cell(feature, name, 0.5 if feature != "format" else auc, 0.41, 0.99, 0.77, 20, 10)
        for feature in FEATURES
        for name in (ALL, generator)
    )
    spectra = {"real": np.zeros(SPECTRUM_BINS), generator: np.linspace(0, 1, SPECTRUM_BINS)}
    return Audit(cells, "5-fold", spectra, 30, 40, ("x.jpg: <cut short>",), {"Rare": 3}, "abc")


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(_audit(), "my & set")


def test_the_page_is_balanced_and_needs_no_other_file(page: str) -> None:
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    links = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^")\s]+)', page)
    assert all(link.startswith("#") for link in links)
    assert page.count("<svg") == 2


def test_the_page_holds_figures_verdict_and_what_was_left_out(page: str) -> None:
    assert "LEAK: a detector trained on this can score 0.97 by format alone" in page
    assert page.count("joint 0.77") == len(FEATURES)
    assert page.count("<b>0.97</b>") == 2
    assert "Rare (3)" in page
    assert "1 files could not be read" in page


def test_names_are_escaped(page: str) -> None:
    assert "my &amp; set" in page
    assert "GAN &lt;1&gt;" in page
    assert "<1>" not in page
    assert "<cut short>" not in page


def test_the_same_audit_gives_the_same_bytes(page: str) -> None:
    assert render_report(_audit(), "my & set") == page


def test_without_a_leak_the_page_says_so() -> None:
    assert "no trivial feature separates real from fake" in render_report(_audit(auc=0.6), "set")
