"""Drives a fake Tinker server with the official SDK and checks what comes back.

    python sampling.py http://127.0.0.1:PORT

The server must run with its control routes. Every check prints one line; the last line is the total. The exit code is
0 only when every check passed.
"""

from __future__ import annotations

import faulthandler
import sys

from harness import Lab, run_all

# Imported for their checks, in the order in which they run.
import checks_session  # noqa: F401  isort: skip
import checks_samples  # noqa: F401  isort: skip
import checks_prompts  # noqa: F401  isort: skip
import checks_trouble  # noqa: F401  isort: skip
import checks_concurrency  # noqa: F401  isort: skip
import checks_processes  # noqa: F401  isort: skip
import checks_background  # noqa: F401  isort: skip

# The whole run, in seconds. A blocked interpreter is ended with a traceback of every thread.
WHOLE_RUN = 150


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    faulthandler.dump_traceback_later(WHOLE_RUN, exit=True)
    with Lab(sys.argv[1].rstrip("/")) as lab:
        return run_all(lab)


if __name__ == "__main__":
    sys.exit(main())
