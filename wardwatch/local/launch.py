"""Becomes another program that ends when its starter does: `launch.py SIGNAL OWNER UID GID PROGRAM ARGUMENT…`.

Run as a script by an isolated interpreter between fork and exec, for what must happen in the child itself. SIGNAL is
sent to the child when the starting *thread* ends (Linux, `prctl(2)`, PR_SET_PDEATHSIG); OWNER is the starter's process
id. UID and GID are -1 to keep the starter's. The order matters: changing the user clears the signal.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replaces this process by the program; exits at once when the owner has gone already."""
    death_signal, owner, uid, gid = (int(argument) for argument in arguments[:4])
    command = arguments[4:]
    os.setsid()
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != owner:
        sys.exit(f"process {owner} ended before {command[0]} began")
    os.execv(command[0], command)  # noqa: S606 - a list of arguments, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
