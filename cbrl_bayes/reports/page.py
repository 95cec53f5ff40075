"""The page itself: one file that needs nothing else, and a short form for notebooks."""

import base64
import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import jinja2
import xarray as xr

from cbrl_bayes.errors import CbrlBayesError, InvalidInputError, ResultsError, require_kind
from cbrl_bayes.reports.parts import Section
from cbrl_bayes.reports.sections import judged, sections
from cbrl_bayes.results import Health, assess, check_interval, check_tree

FOLDER = Path(__file__).parent
IN_SHORT = ("posterior", "incentive", "objective")


@dataclass(frozen=True)
class Report:
    """A page on a fit or a study.

    Attributes
    ----------
    title : str
    health : Health
    accepted : bool
        Whether results are shown although the study failed.
    sections : list of Section
    html : str
        The whole page.
    """

    title: str
    health: Health
    accepted: bool
    sections: list[Section] = field(repr=False)
    html: str = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the page, whole or not at all.

        Parameters
        ----------
        path : str or Path
            Ends in .html.

        Raises
        ------
        ResultsError
            If it cannot be written there.
        """
        path = checked_path(path)
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        try:
            partial.write_text(self.html, encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise ResultsError(
                f"the report cannot be written to {path} ({error})",
                remedy="check that the folder exists, is writable and has room",
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return path

    def _repr_html_(self) -> str:
        """Return verdict, table and figure for a notebook's cell."""
        shown = [section for section in self.sections if section.anchor in IN_SHORT]
        return _templates().get_template("short.html.jinja").render(page=self, shown=shown)


def report(
    tree: xr.DataTree,
    path: str | Path | None = None,
    *,
    prob: float = 0.9,
    question: str = "",
    accept_failed: bool = False,
) -> Report:
    """Make one self-contained page of a fit or a study.

    The page holds its figures, style and script, and asks the network for nothing. A reader
    chooses a design, and incentive, objective and regret follow; pointing at a cell or a line
    tells its numbers. Without JavaScript, and on paper, everything but the numbers of single
    cells is there. All intervals are equal-tailed. A study whose verdict is FAIL states so, and
    its designs and what they are worth are withheld.

    Parameters
    ----------
    tree : xarray.DataTree
        From `infer`, `design` or `load`.
    path : str or Path, optional
        Where to write the page; ends in .html.
    prob : float
        Probability of the intervals, in (0, 1).
    question : str
        What the study is about, in your words; shown first.
    accept_failed : bool
        Show designs although the study failed its checks; the page says so.

    Returns
    -------
    Report
        Shows itself in a notebook; ``save(path)`` writes it.

    Raises
    ------
    ResultsError
        If the tree is not complete or the page cannot be written.
    InvalidInputError
        For a probability outside (0, 1) or a path that does not end in .html.

    Examples
    --------
    >>> import jax, numpy as np, cbrl_bayes as cb
    >>> quick = cb.Search(ascent=cb.Ascent(num_steps=50))
    >>> study = cb.design(cb.problems.two_state(), {"temperature": np.array([0.2, 0.25, 0.3])},
    ...                   key=jax.random.key(0), num_draws=3,
    ...                   settings=cb.DesignSettings(search=quick, per_draw=quick))
    >>> page = report(study)
    >>> page.health.verdict, "are withheld" in page.html
    ('FAIL', True)
    """
    check_interval(prob)
    if path is not None:
        checked_path(path)
    check_tree(tree)
    try:
        health = assess(tree, prob=prob)
        failed = health.verdict == "FAIL"
        made = sections(tree, prob=prob, question=question, withheld=failed and not accept_failed)
    except CbrlBayesError:
        raise
    except Exception as error:  # a tree may hold anything where the schema is silent
        raise ResultsError(
            f"the tree cannot be shown ({type(error).__name__}: {error})",
            remedy="the file may be damaged or changed: rerun the study",
        ) from error
    made = [section for section in made if section.parts]
    title = f"{tree.attrs['problem']}: incentive design under uncertainty"
    accepted = failed and accept_failed
    page = page_of(
        Report(title, health, accepted, made, ""),
        prob=prob,
        created=tree.attrs["created"],
        stage=tree.attrs["stage"],
        judged=judged(tree),
        withheld=failed and not accepted,
    )
    if path is not None:
        page.save(path)
    return page


def page_of(
    made: Report,
    *,
    prob: float,
    created: str,
    stage: str,
    judged: list[str],
    withheld: bool = False,
) -> Report:
    """Write a report's page.

    Parameters
    ----------
    made : Report
        Without its page.
    prob : float
        Probability of the intervals.
    created, stage : str
        When its numbers were made, and what they are of.
    judged : list of str
        What the verdict looked at.
    withheld : bool
        Whether designs are left out because of failures.
    """
    templates = _templates()
    names = next((section.names for section in made.sections if section.names), ())
    style = templates.get_template("page.css.jinja").render(num=len(names)).strip()
    script = (FOLDER / "page.js").read_text(encoding="utf-8").strip()
    html = templates.get_template("page.html.jinja").render(
        title=made.title,
        health=made.health,
        accepted=made.accepted,
        withheld=withheld,
        sections=made.sections,
        names=names,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        prob=prob,
        created=created,
        stage=stage,
        judged=judged,
    )
    return replace(made, html=html)


def _hash(text: str) -> str:
    """Name a text in a content security policy: only this style and script may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def checked_path(path: str | Path) -> Path:
    """Return where a page may be written."""
    require_kind(path, str | Path, "path", '"report.html"')
    path = Path(path)
    if path.suffix != ".html":
        raise InvalidInputError(
            "the report's file type is not known", received=path.name, accepted="*.html"
        )
    return path
