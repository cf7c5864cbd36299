"""Runs in Jumpstarter's own virtual environment, with nothing of ours: the entry point of `jmp`,
imported once (a second of processor time) and forked for each command.

    python jmp_launcher.py SOCKET

Each connection sends {"arguments", "environment", "folder"} as one line of JSON and gets two back:
{"pid"} at once, {"status"} when the command has ended. Its output goes to FOLDER/out and FOLDER/err.
A connection that closes earlier ends its command with SIGTERM, and ten seconds later for good.
"""

import contextlib
import gc
import json
import os
import pathlib
import signal
import socket
import sys
import threading

GRACE_SECONDS = 10


def serve(path, jmp):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    # Those who attend to a connection are nobody's to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return attend(connection, jmp)
        connection.close()


def attend(connection, jmp):
    stream = connection.makefile("rw")
    ask = json.loads(stream.readline())
    pid = os.fork()
    if not pid:
        connection.detach()
        return command(ask, jmp)
    threading.Thread(target=end_with, args=(connection, pid), daemon=True).start()
    say(stream, {"pid": pid})
    _, status = os.waitpid(pid, 0)
    say(stream, {"status": os.waitstatus_to_exitcode(status)})
    os._exit(0)


def say(stream, answer):
    stream.write(json.dumps(answer) + "\n")
    stream.flush()


def end_with(connection, pid):
    """Nothing more is ever sent: what can be read is the connection's end."""
    connection.recv(1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        # A shell waits for the command that it runs, whatever comes.
        threading.Event().wait(GRACE_SECONDS)
        os.killpg(pid, signal.SIGKILL)


def command(ask, jmp):
    os.setsid()
    folder = pathlib.Path(ask["folder"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(folder / "out", os.O_WRONLY | os.O_APPEND), 1)
    os.dup2(os.open(folder / "err", os.O_WRONLY | os.O_APPEND), 2)
    # It was made for a pipe that waits for one line.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(ask["environment"])
    sys.argv = [str(pathlib.Path(sys.executable).with_name("jmp")), *ask["arguments"]]
    sys.exit(jmp())


if __name__ == "__main__":
    from jumpstarter_cli.jmp import jmp as entry

    # Forks share it as long as nobody counts in it: half a second of each.
    gc.freeze()
    serve(sys.argv[1], entry)
