"""A service to be profiled: one request in eight runs `look_again`, and is slow by it. Ends when its input does."""

import random
import sys
import threading
import time

import tailsight

RANDOM = random.Random(7)


def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def look_again():
    spin(0.06)


@tailsight.stage("preprocess")
def preprocess():
    spin(RANDOM.uniform(0.001, 0.006))


@tailsight.stage("compute")
def compute(number):
    if number % 8 == 0:
        look_again()
    spin(RANDOM.uniform(0.002, 0.008))


@tailsight.request
def handle(number):
    preprocess()
    compute(number)
    with tailsight.stage("postprocess"):
        time.sleep(RANDOM.uniform(0.001, 0.003))


def serve():
    for number in range(10**9):
        handle(number)
        time.sleep(RANDOM.uniform(0, 0.01))


if __name__ == "__main__":
    tailsight.configure(service=sys.argv[1], endpoint=sys.argv[2], run=sys.argv[3])
    threading.Thread(target=serve, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    tailsight.shutdown()
