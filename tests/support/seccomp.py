"""The system-call filter that container runtimes put on a process without capabilities, for tests.

    python tests/support/seccomp.py COMMAND ARGUMENT...    runs COMMAND under it

What may live here: the default of Docker and containerd (``seccompProfile: RuntimeDefault`` of a Pod) as it
is for 64-bit programs without any capability, loaded by libseccomp as runtimes do. A script of its own: it is
the first command inside the container. Touch it when runtimes change their list.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

ALLOWED = """
accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown
clock_adjtime clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup
dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate
fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock
fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv
futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid
getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self lchown lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr
lstat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat
mlock mlock2 mlockall mmap modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend
mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep
newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv
process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
recvfrom recvmmsg recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg
sendto set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid
setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr shmat shmctl
shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice stat statfs statx symlink symlinkat
sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink
unlinkat utime utimensat utimes vfork vmsplice wait4 waitid write writev
"""
"""Calls permitted whatever their arguments. io_uring is not: the runtimes took it off their lists in 2023."""

CLONE_NEW = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET: namespaces need CAP_SYS_ADMIN."""

AF_VSOCK = 40
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux, Linux 32 bit, each with UNAME26, and the question which one it is."""

ALLOW = 0x7FFF0000
NOT_EQUAL, EQUAL, MASKED_EQUAL = 1, 4, 7


class Comparison(ctypes.Structure):
    """libseccomp's ``struct scmp_arg_cmp``: of an argument with one value, or with a mask and a value."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def refused(number: int) -> int:
    """libseccomp's action that answers with that errno."""
    return 0x00050000 | number


class Filter:
    """A filter in the making; what has no rule is refused with EPERM."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(refused(errno.EPERM))))
        assert self._context.value, "libseccomp makes no filter"

    def add(self, name: str, action: int = ALLOW, comparison: Comparison | None = None) -> None:
        """A rule for the call of that name; calls that this machine does not have need none."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return
        comparisons = (Comparison * 1)(*([comparison] if comparison else []))
        count = ctypes.c_uint(0 if comparison is None else 1)
        action_of_rule = ctypes.c_uint32(action)
        failed = self._library.seccomp_rule_add_array(
            self._context, action_of_rule, ctypes.c_int(number), count, comparisons
        )
        assert failed == 0, f"{name}: {os.strerror(-failed)}"

    def load(self) -> None:
        """From here on it holds for this process and for all that it starts."""
        failed = self._library.seccomp_load(self._context)
        assert failed == 0, os.strerror(-failed)


def runtime_default() -> Filter:
    """What a container without capabilities gets."""
    made = Filter()
    for name in ALLOWED.split():
        made.add(name)
    made.add("socket", comparison=Comparison(0, NOT_EQUAL, AF_VSOCK))
    made.add("clone", comparison=Comparison(0, MASKED_EQUAL, CLONE_NEW, 0))
    # Its flags are in memory, where no filter can see them: programs are to fall back to clone.
    made.add("clone3", refused(errno.ENOSYS))
    for personality in PERSONALITIES:
        made.add("personality", comparison=Comparison(0, EQUAL, personality))
    return made


if __name__ == "__main__":
    runtime_default().load()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the command of the test
