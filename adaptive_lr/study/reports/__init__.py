"""The reports of a study: tables as Markdown, LaTeX and CSV, and figures, a pure function of recorded results."""

from adaptive_lr.study.reports.writing import Report as Report
from adaptive_lr.study.reports.writing import make_report as make_report
from adaptive_lr.study.reports.writing import write_report as write_report
from adaptive_lr.study.reports.writing import write_reports as write_reports
