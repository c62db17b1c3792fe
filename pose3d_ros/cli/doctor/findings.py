"""What an examination finds: sound, worth knowing, or wrong with a cure; and examinations that cannot fail or hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

OK, NOTE, PROBLEM = 'ok', 'note', 'problem'


@dataclass(frozen=True)
class Finding:
    """One thing looked at. level: 'ok', 'note' (works, but worth knowing) or 'problem'; cure: one line, what to do."""

    name: str
    level: str
    text: str
    cure: str = ''


def ok(name: str, text: str) -> Finding:
    """Return a finding that needs nobody's attention."""
    return Finding(name, OK, text)


def note(name: str, text: str, cure: str = '') -> Finding:
    """Return a finding that somebody may want to know."""
    return Finding(name, NOTE, text, cure)


def problem(name: str, text: str, cure: str) -> Finding:
    """Return a finding that keeps something from working."""
    return Finding(name, PROBLEM, text, cure)


@dataclass
class Section:
    """Findings under one heading. limit_s: what takes longer than this is given up."""

    title: str
    look: Callable[[], Iterable[Finding]]
    limit_s: float = 20.0
    findings: list[Finding] = field(default_factory=list)


def examine(sections: Sequence[Section]) -> Iterator[Section]:
    """Look at all sections at once and yield them in order, each when it is complete or given up. Raises nothing.

    A look that fails or hangs leaves what it had found, and a problem that says so.
    """
    started = time.monotonic()
    # Daemons: a look that hangs in the kernel (a file system that is gone) does not keep the program from ending.
    threads = [threading.Thread(target=_collect, args=(section,), daemon=True) for section in sections]
    for thread in threads:
        thread.start()
    for section, thread in zip(sections, threads):
        thread.join(max(0.0, started + section.limit_s - time.monotonic()))
        found = list(section.findings)
        if thread.is_alive():
            found.append(problem('examination', f'gave no answer within {section.limit_s:g} s; what comes after the '
                                                'lines above is not known', 'look for a disk, a driver or a network '
                                                'folder that hangs, then run this again'))
        yield Section(section.title, section.look, section.limit_s, found)


def _collect(section: Section) -> None:
    try:
        for finding in section.look():
            section.findings.append(finding)
    except Exception as error:  # whatever a broken installation does, the other findings are worth having
        reason = ' '.join(str(error).split()) or 'without a reason'
        section.findings.append(problem('examination', f'stopped here by {type(error).__name__}: {reason}',
                                        'put right what it names; if that is nothing of yours, please report it'))
