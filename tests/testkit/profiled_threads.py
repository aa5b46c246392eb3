"""Services to be profiled that are no simple loop: `profiled_threads.py KIND SERVICE ENDPOINT`; they end when their input does.

gil      three threads that fight for the interpreter's lock
workers  a parent that serves nothing, and two forked children that do, as gunicorn has them
others   one thread that serves
"""

import os
import random
import sys
import threading
import time

import tailsight


def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@tailsight.stage("compute")
def compute(own):
    spin(own.uniform(0.002, 0.02))


@tailsight.request
def handle(own):
    with tailsight.stage("preprocess"):
        spin(own.uniform(0.001, 0.008))
    compute(own)


def serve(seed):
    own = random.Random(seed)
    while True:
        handle(own)
        time.sleep(own.uniform(0, 0.002 if sys.argv[1] == "gil" else 0.03))


def configure():
    tailsight.configure(service=sys.argv[2], endpoint=sys.argv[3])


def background(count):
    for seed in range(count):
        threading.Thread(target=serve, args=(seed,), daemon=True).start()


def main():
    configure()
    if sys.argv[1] == "workers":
        for _ in range(2):
            ours, theirs = os.pipe()
            if not os.fork():
                os.close(theirs)
                background(1)
                os.read(ours, 1)  # ends with its parent
                tailsight.shutdown()
                os._exit(0)
            os.close(ours)
    else:
        background(3 if sys.argv[1] == "gil" else 1)
    print("ready", flush=True)
    sys.stdin.read()
    tailsight.shutdown()


if __name__ == "__main__":
    main()
