"""report.html: one self-contained page a run."""

from segjax.report.page import write_report

__all__ = ["write_report"]
