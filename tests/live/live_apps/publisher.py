"""A process that serves nothing, and publishes in every way there is."""

import os
import signal
import threading

from shared_topics import app, sockets


def publish(*names):
    for name in names:
        sockets.publish("log", name)


def fork(name):
    if pid := os.fork():
        return pid
    status = 1
    try:
        publish(name)
        assert threading.active_count() == 1
        status = 0
    finally:
        os._exit(status)


def wait_for(pid):
    _, status = os.waitpid(pid, 0)
    assert status == 0


def say_and_wait(word):
    print(word, flush=True)
    signal.sigwait([signal.SIGUSR1])


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    say_and_wait("started")
    publish("first")
    assert threading.active_count() == 1  # No task in the background.
    say_and_wait("published")
    wait_for(fork("child"))
    publish("parent")
    threads = [
        threading.Thread(target=publish, args=[f"{t}-{n}" for n in range(20)])
        for t in range(4)
    ]
    for thread in threads:
        thread.start()
    # Others hold the locks, or wait for answers, in the middle of this.
    for pid in [fork(f"child {number}") for number in range(5)]:
        wait_for(pid)
    for thread in threads:
        thread.join()
    print("done", flush=True)


with app.app_context():
    main()
