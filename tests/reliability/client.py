"""A worker process for the kill tests: opens the desk, perhaps asks for a run, waits until all is quiet.

python client.py            take up what is open, end when nothing is under way
python client.py HOST       ask for a run on HOST first
"""

from __future__ import annotations

import sys
import time

from remediate.config import load_settings
from remediate.control import connect
from remediate.model.run import State
from remediate.testing import a_request


def main() -> None:
    with connect(load_settings()) as desk:
        print("ready", flush=True)
        if len(sys.argv) > 1:
            run = desk.submit(a_request(code="TST-KILL-PROOF", target=sys.argv[1]))
            print(run.id, flush=True)
            while desk.run(run.id).state is not State.CLOSED and desk.failure(run.id) is None:
                time.sleep(0.05)


if __name__ == "__main__":
    main()
