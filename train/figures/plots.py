"""What the figures that are plots share: matplotlib, loaded when it is needed, and files in the format that their name says."""

from pathlib import Path

FORMATS = (".svg", ".pdf", ".png")


def new_figure(width, height):
    """A matplotlib figure of so many inches, which no window shows.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib: pip install 'matplotlib>=3.9', which the extra `figures` of this package holds."
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure, path):
    """Writes a figure as SVG, PDF or PNG. Text in an SVG stays text, and the same figure gives the same bytes."""
    import matplotlib

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "uniglor"}):
        figure.savefig(path, dpi=150, metadata=metadata)


def plain(text):
    """A text that matplotlib draws as it stands: a dollar sign begins no formula."""
    return str(text).replace("$", r"\$")
