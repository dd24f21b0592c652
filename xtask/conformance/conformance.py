"""Drives a fake Tinker server with the official SDK and checks what comes back.

    python conformance.py http://127.0.0.1:PORT TRAINING_REFERENCE

The server must run with its control routes. TRAINING_REFERENCE is the compiled example of that name of `tinkex-client`:
it trains on the same server, and its numbers are compared with those of the official SDK. Every check prints one line;
the last line is the total. The exit code is 0 only when every check passed.
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
import checks_training  # noqa: F401  isort: skip
import checks_losses  # noqa: F401  isort: skip
import checks_weights  # noqa: F401  isort: skip
import checks_training_trouble  # noqa: F401  isort: skip
import checks_agreement  # noqa: F401  isort: skip
import checks_background  # noqa: F401  isort: skip
import checks_tokens  # noqa: F401  isort: skip

# The whole run, in seconds. A blocked interpreter is ended with a traceback of every thread.
WHOLE_RUN = 120


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    faulthandler.dump_traceback_later(WHOLE_RUN, exit=True)
    with Lab(sys.argv[1].rstrip("/"), sys.argv[2]) as lab:
        return run_all(lab)


if __name__ == "__main__":
    sys.exit(main())
