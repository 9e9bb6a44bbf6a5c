"""Run a long, silent command and say every few seconds that it is still at work.

usage: with_heartbeat.py "what it does" -- COMMAND [ARG ...]

Only the standard library: this runs before anything is installed.
"""

import subprocess
import sys
import time

EVERY_SECONDS = 15


def main() -> int:
    label, dashes, *command = sys.argv[1:]
    if dashes != "--" or not command:
        sys.stderr.write(__doc__ or "")
        return 2
    started = time.monotonic()
    process = subprocess.Popen(command)
    while True:
        try:
            code = process.wait(timeout=EVERY_SECONDS)
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"  … {label}, {time.monotonic() - started:.0f} s\n")
            continue
        verdict = "done" if code == 0 else f"FAILED (exit {code})"
        sys.stderr.write(f"  {label}: {verdict} after {time.monotonic() - started:.0f} s\n")
        return code


if __name__ == "__main__":
    raise SystemExit(main())
