"""What code in a sandbox can read, write, reach, use and leave behind, tried from inside; as root and as others."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from grading import sandbox
from grading.sandbox import paths, seccomp

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534

# Not our own word for it: the system's tool must fail too, or a broken sandbox would only skip its tests.
TOOL = subprocess.run(["unshare", "-Urmpf", "--mount-proc", "true"], capture_output=True, text=True)
pytestmark = pytest.mark.skipif(TOOL.returncode != 0, reason=f"NO SANDBOX HERE: {TOOL.stderr.strip()}")

# A caller of the sandbox. It runs `code` inside, with `said` to report in, `attempt` to try things, and `o` to read.
DRIVER = """
import ctypes, json, os, select, signal, subprocess, sys, time
o = json.loads(sys.argv[1])
sys.path.insert(0, o["root"])
from pathlib import Path
from grading import sandbox

def attempt(f, *args):
    try:
        return f(*args)
    except BaseException as error:
        return type(error).__name__

def policy(readable=(), hidden=(), replaced={}, **limits):
    return sandbox.Policy(
        readable=(*sandbox.default_readable(), *map(Path, readable)), hidden=tuple(map(Path, hidden)),
        replaced={Path(name): text.encode() for name, text in replaced.items()}, **limits)

def start(code, *, report, keep=(), limits=None):
    def body():
        said = {}
        try:
            exec(code, {**globals(), "said": said, "report": report})
        finally:
            os.write(report, json.dumps(said).encode())
    return sandbox.spawn(limits if limits is not None else policy(**o["policy"]), body, [report, *keep])

def finish(box, read, write):
    os.close(write)
    said = b""
    while part := os.read(read, 1 << 16):
        said += part
    return {"said": json.loads(said or "null"), "status": box.wait()}

read, write = os.pipe()
exec(o["caller"])
"""
SIMPLE = "print(json.dumps(finish(start(o['code'], report=write), read, write)))"


def interpreter_for(user):
    """A Python that this user may run, with all that it needs."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            tried = subprocess.run([python, "-c", f"open({str(ROOT / 'grading' / '__init__.py')!r})"], **as_user(user),
                                   capture_output=True, cwd="/")  # fmt: skip
        except OSError:
            continue
        if tried.returncode == 0:
            return python
    pytest.skip(f"NOT TESTED: user {user} can run no Python here that reads the course")


def as_user(user):
    return {} if user == os.geteuid() else {"user": user, "group": user, "extra_groups": []}


class Caller:
    """A process that makes sandboxes, as some user."""

    def __init__(self, user):
        self.user = user
        self.python = interpreter_for(user)

    def begin(self, code="", *, caller=SIMPLE, **policy):
        policy["replaced"] = {str(path): text for path, text in policy.get("replaced", {}).items()}
        order = {"root": str(ROOT), "code": textwrap.dedent(code), "caller": textwrap.dedent(caller), "policy": policy}
        command = [self.python, "-c", DRIVER, json.dumps(order, default=str)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
            **as_user(self.user),
        )  # fmt: skip

    def __call__(self, code="", *, timeout=30, **how):
        process = self.begin(code, **how)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            for pid in tree(process.pid):
                os.kill(pid, signal.SIGKILL)
            raise
        assert process.returncode == 0, err
        return json.loads(out)

    def inside(self, code, **how):
        """What `said` holds after the code has run in a sandbox."""
        got = self(code, **how)
        assert got["status"].get("exit") == 0, got
        return got["said"]


@pytest.fixture(params=["root", "unprivileged"])
def caller(request):
    """Someone who makes sandboxes."""
    if request.param == "root":
        if os.geteuid() != 0:
            pytest.skip("NOT TESTED: needs root")
        return Caller(0)
    return Caller(os.geteuid() or NOBODY)


@pytest.fixture
def open_path(tmp_path):
    """A folder that every user can reach and write."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    tmp_path.chmod(0o777)
    return tmp_path


def tree(pid):
    """A process and all that came from it, now."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def alive(pids):
    """Those of the processes that have not ended."""
    left = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            left.add(pid)
    return left


def gone(pids, seconds=5.0):
    """Whether all end in time."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if not alive(pids):
            return True
        time.sleep(0.01)
    return False


def test_it_is_available_where_the_systems_tool_can_do_it(caller):
    assert caller(caller="print(json.dumps(sandbox.unavailable()))") is None


# --- files ---------------------------------------------------------------------------------------------------------
def make_course(root):
    """A course with what a student must not see, and what they need, in between."""
    for name in ("submitted/ada/a.ipynb", "gradebook.db", "solutions/s.py", "ebm_lib/energy.py", "ebm_lib/answer.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"text of {name}")
    (root / "ebm_lib" / "inner").mkdir()
    (root / "ebm_lib" / "inner" / "deep.py").write_text("deep")
    (root / "ebm_lib" / "way_out").symlink_to(root / "gradebook.db")
    return root


READ_ALL = """
for name in ["gradebook.db", "submitted/ada/a.ipynb", "solutions/s.py", "ebm_lib/energy.py", "ebm_lib/answer.py",
             "ebm_lib/inner/deep.py", "ebm_lib/way_out"]:
    said[name] = attempt((Path({root!r}) / name).read_text)
said["names"] = sorted(os.listdir({root!r}))
"""


@pytest.mark.parametrize("name", ["plain", "with a space, 'quotes' and ümläut"])
def test_only_what_is_readable_shows(caller, open_path, name):
    root = make_course(open_path / name)
    lib = root / "ebm_lib"
    said = caller.inside(
        READ_ALL.format(root=str(root)), readable=[lib], hidden=[root], replaced={lib / "answer.py": "not for you"}
    )
    hidden = ["gradebook.db", "submitted/ada/a.ipynb", "solutions/s.py", "ebm_lib/way_out"]
    assert {said[name] for name in hidden} == {"FileNotFoundError"}
    assert said["ebm_lib/energy.py"] == "text of ebm_lib/energy.py"
    assert said["ebm_lib/inner/deep.py"] == "deep"
    assert said["ebm_lib/answer.py"] == "not for you"
    assert said["names"] == ["ebm_lib"]


def test_a_course_inside_something_readable_is_hidden_and_its_library_shows_again(caller, open_path):
    root = make_course(open_path / "home" / "course")
    (open_path / "home" / "other.txt").write_text("other")
    lib = root / "ebm_lib"
    code = (
        READ_ALL.format(root=str(root)) + f"said['other'] = Path({str(open_path / 'home' / 'other.txt')!r}).read_text()"
    )
    said = caller.inside(
        code, readable=[open_path / "home", lib], hidden=[root, lib / "inner", lib / "answer.py", root / "not there"]
    )
    assert said["gradebook.db"] == said["solutions/s.py"] == said["ebm_lib/way_out"] == "FileNotFoundError"
    assert said["ebm_lib/energy.py"] == "text of ebm_lib/energy.py"
    assert said["ebm_lib/answer.py"] == ""
    assert said["ebm_lib/inner/deep.py"] == "FileNotFoundError"
    assert (said["names"], said["other"]) == (["ebm_lib"], "other")


def test_a_readable_path_through_links_shows_as_outside(caller, open_path):
    (open_path / "real").mkdir()
    (open_path / "real" / "x").write_text("x")
    (open_path / "relative").symlink_to("real")
    (open_path / "absolute").symlink_to(open_path / "relative")
    said = caller.inside(
        f"said['x'] = (Path({str(open_path)!r}) / 'absolute/x').read_text()", readable=[open_path / "absolute"]
    )
    assert said == {"x": "x"}


def test_the_systems_secrets_do_not_show(caller):
    code = """
    for name in ["/etc/shadow", "/root", "/home", "/var", "/sys", "/run", "/mnt", "/old_root", "/.covers", "/.tmpfs"]:
        said[name] = os.path.exists(name)
    said["passwd"] = Path("/etc/passwd").read_text().count("\\n")
    said["name"] = os.uname().nodename
    said["home"] = [os.getcwd(), os.path.expanduser("~"), os.getuid(), os.listdir("/tmp"), os.listdir("/tmp/work")]
    """
    said = caller.inside(code)
    assert said.pop("passwd") == 1
    assert said.pop("name") == "sandbox"  # not the name of the machine
    assert said.pop("home") == ["/tmp/work", "/tmp/work", 1000, ["work"], []]
    shown = {name for name, exists in said.items() if exists}
    assert shown <= {f"/{path.parts[1]}" for path in map(Path.resolve, sandbox.default_readable())} - {"/home"}


def test_nothing_can_be_written_but_tmp(caller, open_path):
    root = make_course(open_path / "course")
    for path in (root, *root.rglob("*")):
        path.chmod(0o777)  # outside, anyone may write here
    before = {path: path.lstat().st_mtime_ns for path in open_path.rglob("*")}
    code = """
    place = Path(o["policy"]["readable"][0])
    said["refused"] = {str(f): attempt(Path(f).write_text, "1000") for f in [
        place / "new", place / "gradebook.db", "/new", "/etc/new", "/dev/new", "/usr/new", "/proc/sys/kernel/hostname",
        os.__file__, "/proc/self/oom_score_adj", "/proc/self/comm"]}
    said["refused"] |= {
        "unlink": attempt(os.unlink, place / "gradebook.db"), "rename": attempt(os.rename, place, place.parent / "y"),
        "chmod": attempt(os.chmod, place / "gradebook.db", 0o666), "utime": attempt(os.utime, place / "gradebook.db"),
        "rmdir": attempt(os.rmdir, place / "submitted"), "mkdir": attempt(os.mkdir, "/x"),
        "mknod": attempt(os.mknod, "/tmp/disk", 0o60666, os.makedev(254, 0)), "chroot": attempt(os.chroot, "/tmp"),
        "chown": attempt(os.chown, "/tmp/work", 0, 0), "link": attempt(os.link, place / "gradebook.db", "/tmp/l"),
        "swap": attempt(os.rename, "/tmp/work", "/usr/work"), "null": attempt(os.chmod, "/dev/null", 0)}
    for folder in ("/tmp", "/tmp/work", "/dev/shm"):
        said[folder] = attempt(Path(folder, "mine").write_text, "mine")
    said["null"] = attempt(Path("/dev/null").write_text, "gone")
    """
    said = caller.inside(code, readable=[root])
    assert {name: got for name, got in said["refused"].items() if got not in ("OSError", "PermissionError")} == {}
    assert [said[name] for name in ("/tmp", "/tmp/work", "/dev/shm", "null")] == [4] * 4
    assert {path: path.lstat().st_mtime_ns for path in open_path.rglob("*")} == before
    assert not Path("/dev/shm/mine").exists()


@pytest.mark.parametrize("path", ["/", "/tmp", "/etc/..", "/proc", "/dev", "/etc"])
def test_a_policy_that_shows_too_much_is_refused(path):
    with pytest.raises(ValueError, match=r"readable holds"):
        sandbox.spawn(sandbox.Policy(readable=(Path(path),)), lambda: None)


def test_the_default_shows_the_environment_and_nobodys_home():
    shown = sandbox.default_readable()
    assert Path(sys.prefix) in shown
    assert any(path in Path(os.__file__).parents for path in shown)
    for secret in ("/root", "/home", "/etc", "/etc/shadow", "/var", "/sys", "/run", "/", Path.home(), ROOT):
        assert Path(secret) not in shown
        assert not set(shown) & set(Path(secret).parents)


def test_steps_come_after_what_they_lie_in():
    policy = sandbox.Policy(readable=(Path("/usr/lib"), Path("/usr")), hidden=(Path("/usr/lib"), Path("/root")))
    steps = [(step.kind, step.path) for step in paths.plan(policy)]
    assert steps == [("bind", "/usr"), ("hide", "/usr/lib")]  # what is hidden and readable at once is hidden


# --- the rest of the machine ---------------------------------------------------------------------------------------
def test_no_network_and_no_socket_of_the_machine(caller, open_path):
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0sandbox-test-{os.getpid()}")
        abstract.listen()
        code = f"""
        import socket
        def reach(family, address):
            with socket.socket(family) as s:
                s.settimeout(2)
                s.connect(address)
        said["tcp"] = attempt(reach, socket.AF_INET, ("127.0.0.1", {tcp.getsockname()[1]}))
        said["abstract"] = attempt(reach, socket.AF_UNIX, "\\0sandbox-test-{os.getpid()}")
        said["families"] = [attempt(lambda: socket.socket(f, k).close())
            for f in (2, 10, 16, 17, 38, 40)  # inet, inet6, netlink, packet, alg, vsock
            for k in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)]
        said["devices"] = [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
        a, b = socket.socketpair()
        a.send(b"x")
        said["own"] = b.recv(1).decode()
        """
        said = caller.inside(code)
    assert said["tcp"] == "PermissionError"
    assert said["abstract"] == "ConnectionRefusedError"
    assert set(said["families"]) == {"PermissionError"}
    assert said["devices"] == ["lo"]  # a network of its own, whatever the filter of system calls lets through
    assert said["own"] == "x"


def test_sees_and_signals_only_its_own_processes(caller):
    with subprocess.Popen(["sleep", "60"]) as bystander:
        code = f"""
        said["pids"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        said["me"] = os.getpid()
        said["parent"] = os.getppid()
        said["kill"] = [attempt(os.kill, pid, 9) for pid in ({bystander.pid}, {os.getpid()}, {os.getppid() or 1})]
        said["init"] = [attempt(os.kill, 1, s) for s in (9, 15, 2, 11, 19)]
        for name in ("mem", "environ", "maps", "root", "fd", "cwd", "exe"):
            said[name] = attempt(os.stat, f"/proc/1/{{name}}")
        time.sleep(0.05)
        said["still here"] = True
        """
        said = caller.inside(code)
        assert bystander.poll() is None
        bystander.kill()
    assert said["pids"] == [said["me"]]
    assert said["parent"] == 0
    assert set(said["kill"]) == {"ProcessLookupError"}
    assert said["still here"]
    assert {said[name] for name in ("mem", "environ", "maps", "root", "fd", "cwd", "exe")} == {"FileNotFoundError"}


def test_no_right_is_left(caller):
    code = """
    lines = [line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line]
    said |= {name: value.split() for name, value in lines if name.startswith(("Cap", "NoNew", "Seccomp", "Uid", "Gid"))}
    said["root"] = [attempt(os.setuid, 0), attempt(os.seteuid, 0), attempt(os.setgid, 0), attempt(os.setgroups, [0])]
    said["namespaces"] = Path("/proc/sys/user/max_user_namespaces").read_text()
    said["outside"] = Path("/proc/self/uid_map").read_text().split()
    said["unshare"] = subprocess.run(["unshare", "--user", "--map-root-user", "true"]).returncode
    import resource
    said["limits"] = attempt(resource.setrlimit, resource.RLIMIT_NOFILE, (1 << 16, 1 << 16))
    """
    said = caller.inside(code, open_files=64)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(said[name][0], 16) == 0
    assert (said["NoNewPrivs"], said["Seccomp"]) == (["1"], ["2"])
    assert said["Uid"] == said["Gid"] == ["1000"] * 4
    assert set(said["root"]) <= {"PermissionError", "OSError"}  # the second: there is no such user in here
    assert said["namespaces"].strip() == "0"
    inside, outside, count = map(int, said["outside"])
    assert (inside, count) == (1000, 1)
    assert outside == (caller.user or outside) != 0
    assert said["unshare"] != 0
    assert said["limits"] == "ValueError"


def test_a_setuid_program_gives_nothing(open_path):
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: needs root to make a setuid program")
    program = open_path / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    assert subprocess.check_output([program, "-u"], user=NOBODY) == b"0\n"  # outside it gives root
    run = f"said['id'] = subprocess.check_output([{str(program)!r}, '-u']).decode()"
    assert Caller(0).inside(run, readable=[program]) == {"id": "1000\n"}


DANGEROUS = """mount umount2 pivot_root chroot setns open_tree move_mount fsopen fsmount mount_setattr open_by_handle_at
ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd bpf perf_event_open userfaultfd io_uring_setup io_uring_enter
io_uring_register add_key request_key keyctl personality memfd_create shmget swapon swapoff quotactl acct reboot
kexec_load kexec_file_load init_module finit_module delete_module syslog"""


def test_refused_calls_are_refused(caller):
    column = list(seccomp._ARCH).index(os.uname().machine)
    numbers = {name: both[column] for name, both in seccomp._REFUSED.items() if both[column] is not None}
    assert set(DANGEROUS.split()) <= set(numbers)
    others = [both[column] for both in (seccomp._CLONE, seccomp._UNSHARE, seccomp._CLONE3)]
    code = f"""
    import errno
    libc = ctypes.CDLL(None, use_errno=True)
    def call(number, *args):
        return 0 if libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, args)) >= 0 else ctypes.get_errno()
    numbers = {numbers!r}
    said["refused"] = {{name: call(number, 0, 0, 0, 0, 0) for name, number in numbers.items()}}
    clone, unshare, clone3 = {others}
    # each namespace: ns, cgroup, uts, ipc, user, pid, net
    flags = [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]
    said["clone"] = [call(clone, flag | signal.SIGCHLD, 0, 0, 0, 0) for flag in flags]
    said["unshare"] = [call(unshare, flag) for flag in [*flags, 0x80]]
    said["harmless"] = call(unshare, 0x400)  # CLONE_FILES
    said["clone3"] = call(clone3, 0, 0) == errno.ENOSYS
    import threading
    thread = threading.Thread(target=lambda: said.update(thread=True))
    thread.start()
    thread.join()
    said["program"] = subprocess.run(["true"]).returncode
    """
    said = caller.inside(code)
    assert {name: error for name, error in said["refused"].items() if error != 1} == {}
    assert said["clone"] == [1] * 7
    assert said["unshare"] == [1] * 8
    assert (said["harmless"], said["clone3"], said["thread"], said["program"]) == (0, True, True, 0)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only x86_64 has a second set of calls")
def test_the_other_sets_of_calls_kill(caller):
    code = """
    import mmap
    def ends_by(call):
        pid = os.fork()
        if pid == 0:
            call()
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    def call32():  # mov eax, 20 (getpid); int 0x80; ret
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    libc = ctypes.CDLL(None)
    said["x32"] = ends_by(lambda: libc.syscall(ctypes.c_long(0x40000000 + 39)))
    said["i386"] = ends_by(call32)
    """
    said = caller.inside(code)
    assert said["x32"] == -signal.SIGSYS
    assert said["i386"] in (-signal.SIGSYS, -signal.SIGSEGV)  # the second where the kernel has no 32-bit calls


def test_the_numbers_of_calls_are_those_of_the_kernel():
    """Compare with the headers of the C library, one for each processor."""
    every = {**seccomp._REFUSED, "clone": seccomp._CLONE, "unshare": seccomp._UNSHARE, "clone3": seccomp._CLONE3,
             "socket": seccomp._SOCKET, "socketpair": seccomp._SOCKETPAIR}  # fmt: skip
    checked = 0
    headers = (next(Path("/usr/include").glob("*/asm/unistd_64.h"), None), Path("/usr/include/asm-generic/unistd.h"))
    for column, header in enumerate(headers):
        if header is None or not header.exists():
            continue
        known = {
            name: int(number)
            for name, number in re.findall(r"#define __NR3?_?(?:_NR_)?(\w+) (\d+)", header.read_text())
        }
        for name, numbers in every.items():
            if name in known:
                assert numbers[column] == known[name], (name, header)
                checked += 1
    if not checked:
        pytest.skip("NOT TESTED: no kernel headers here")
    assert checked > 50


# --- limits --------------------------------------------------------------------------------------------------------
def test_memory_of_one_process(caller):
    code = """
    said["little"] = attempt(lambda: len(bytearray(20 << 20)))
    said["much"] = attempt(lambda: len(bytearray(200 << 20)))
    import mmap
    said["shared"] = attempt(lambda: len(mmap.mmap(-1, 200 << 20)))
    """
    said = caller.inside(code, memory_bytes=100 << 20)
    assert said == {"little": 20 << 20, "much": "MemoryError", "shared": "OSError"}


def test_memory_of_the_whole_tree(caller):
    if caller.user != 0 or "memory" not in sandbox.cgroups():
        pytest.skip(f"NOT TESTED: {sandbox.cgroups()} for this user")
    code = """
    children = []
    for _ in range(6):
        if not (pid := os.fork()):
            memory = bytearray(os.urandom(1 << 20) * 40)
            time.sleep(0.3)
            os._exit(0)
        children.append(pid)
    said["ends"] = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    """
    got = caller(code, memory_bytes=100 << 20, processes=20)
    assert got["status"]["oom"]
    assert got["said"] is None or -9 in got["said"]["ends"]


def test_size_of_a_file_and_of_all_files(caller):
    code = """
    def write(name, size):
        with open(name, "wb", buffering=0) as f:
            return sum(f.write(b"x" * (1 << 16)) for _ in range(size >> 16))
    said["small"] = attempt(write, "/tmp/a", 1 << 20)
    said["large"] = attempt(write, "/tmp/b", 3 << 20)
    os.unlink("/tmp/b")
    said["together"] = [attempt(write, f"/dev/shm/{n}" if n % 2 else f"/tmp/{n}", 1 << 20) for n in range(6)]
    for n in range(6):
        Path(f"/dev/shm/{n}" if n % 2 else f"/tmp/{n}").unlink(missing_ok=True)
    def many():
        for n in range(100_000):
            os.mkdir(f"/tmp/many{n}")
    said["many"] = attempt(many)
    """
    said = caller.inside(code, file_bytes=2 << 20, tmp_bytes=4 << 20)
    assert (said["small"], said["large"]) == (1 << 20, "OSError")
    assert said["together"] == [1 << 20] * 3 + ["OSError"] * 3
    assert said["many"] == "OSError"


def test_processor_time(caller):
    got = caller("while True: pass", cpu_seconds=1)
    assert got["status"]["signal"] in (signal.SIGXCPU, signal.SIGKILL)
    assert 0.8 < got["status"]["cpu_seconds"] < 3


def test_open_files(caller):
    code = """
    def open_many():
        while True:
            os.open("/dev/null", os.O_RDONLY)
    said["end"] = attempt(open_many)
    said["highest"] = max(map(int, (os.close(5), os.listdir("/proc/self/fd"))[1]))
    """
    said = caller.inside(code, open_files=64)
    assert said == {"end": "OSError", "highest": 63}


def test_a_fork_bomb_is_held_and_dies(caller):
    code = """
    count = 0
    try:
        while True:
            if not os.fork():
                time.sleep(60)
                os._exit(0)
            count += 1
    except OSError as error:
        said["error"] = error.errno
    said["count"] = count
    """
    process = caller.begin(code, processes=30)
    pids, out = set(), None
    while process.poll() is None:
        pids |= tree(process.pid)
    out = json.loads(process.communicate()[0])
    assert out["said"] == {"error": 11, "count": 29}
    assert gone(pids)


def test_processes_of_two_sandboxes_are_counted_apart(caller):
    code = """
    children = []
    for _ in range(9):
        if not (pid := os.fork()):
            time.sleep(60)
        children.append(pid)
    said["n"] = len(children)
    """
    both = """
    pairs = [os.pipe() for _ in range(3)]
    boxes = [start(o["code"], report=w) for r, w in pairs]
    print(json.dumps([finish(box, r, w) for box, (r, w) in zip(boxes, pairs)]))
    """
    got = caller(code, caller=both, processes=10)
    assert [one["said"] for one in got] == [{"n": 9}] * 3


# --- beginnings and ends -------------------------------------------------------------------------------------------
def test_a_daemon_dies_with_the_sandbox(caller):
    code = """
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.closerange(0, 100)
            time.sleep(60)
        os._exit(0)
    os.wait()
    time.sleep(0.3)
    """
    process = caller.begin(code)
    pids = set()
    while process.poll() is None:
        pids |= tree(process.pid)
        pids |= {pid for old in list(pids) for pid in tree(old)}
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["status"]["exit"] == 0
    assert len(pids) >= 5  # caller, keeper, init, body, daemon
    assert gone(pids)


def test_orphans_are_not_kept_as_zombies(caller):
    code = """
    for _ in range(40):  # more than may live at a time
        if not os.fork():
            if not os.fork():
                os._exit(0)
            os._exit(0)
        os.wait()
        time.sleep(0.005)
    """
    caller.inside(code, processes=16)


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("pass", (0, None)), ("1 / 0", (70, None)), ("sys.exit(0)", (70, None)), ("os._exit(3)", (3, None)),
        ("os.abort()", (None, signal.SIGABRT)), ("ctypes.string_at(0)", (None, signal.SIGSEGV)),
        ("os.kill(os.getpid(), 9)", (None, signal.SIGKILL)),
    ],
)  # fmt: skip
def test_how_it_ended_is_said(caller, code, ending):
    status = caller(code)["status"]
    assert (status["exit"], status["signal"]) == ending
    assert status["oom"] is False
    assert status["max_rss"] > 1 << 20


WAITING = """
def hold():
    os.write(report, b"!")
    time.sleep(60)
"""
CONTROL = """
keep_read, keep_write = os.pipe()
limits = sandbox.Limits() if o["policy"].pop("plain", False) else None
box = start(o["code"], report=write, keep=[keep_write], limits=limits)
assert os.read(read, 1) == b"!"
"""


def test_an_interrupt_raises_in_the_body(caller):
    code = WAITING + "said['got'] = attempt(hold)\nsaid['again'] = attempt(hold)"
    control = """
    box.interrupt()
    while not select.select([read], [], [], 5)[0]: pass
    assert os.read(read, 1) == b"!"
    box.interrupt()
    print(json.dumps(finish(box, read, write)))
    """
    said = caller.inside(code, caller=CONTROL + textwrap.dedent(control))
    assert said == {"got": "KeyboardInterrupt", "again": "KeyboardInterrupt"}


HANG = (
    WAITING
    + """
for number in (1, 2, 15):
    signal.signal(number, signal.SIG_IGN)
if not os.fork():
    os.setsid()
    time.sleep(60)
hold()
"""
)
READY = "print('ready', flush=True)\nsys.stdin.readline()\n"
ENDINGS = {
    "a K": "os.write(box.control, b'K')\nprint(json.dumps(box.wait()))",
    "closing": "print(json.dumps(box.wait(kill=True)))",
    "kill -9 of the keeper": "os.kill(box.pid, 9)\nprint(json.dumps(box.wait()))",
    "kill -9 of the caller": "print(json.dumps({}))\nsys.stdout.flush()\nos.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_everything_ends_within_a_second(caller, ending):
    process = caller.begin(HANG, caller=CONTROL + READY + ENDINGS[ending])
    process.stdout.readline()
    pids = tree(process.pid)
    assert len(pids) == 5  # caller, keeper, init, body, its child
    # Init itself ends when its last process has been waited for: with the keeper dead, by the machine's own init.
    pids = {pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() != "cat\n"}
    began = time.monotonic()
    out, err = process.communicate("go\n", timeout=10)
    assert gone(pids)
    assert time.monotonic() - began < 3  # a tenth of a second on a quiet machine
    said = json.loads(out)
    if ending.startswith("kill -9 of the keeper"):
        assert "keeper" in said["error"]
    elif "caller" not in ending:
        assert said["signal"] == signal.SIGKILL, err


def test_one_sandbox_does_not_hold_another_open(caller):
    control = """
    pairs = [os.pipe() for _ in range(3)]
    boxes = [start(o["code"], report=w) for r, w in pairs]
    for r, w in pairs:
        assert os.read(r, 1) == b"!"
    print(json.dumps([box.wait(kill=True) for box in boxes]))
    """
    got = caller(WAITING + "hold()", caller=control, timeout=10)
    assert [status["signal"] for status in got] == [9, 9, 9]


def test_only_the_descriptors_given_are_open(caller, open_path):
    (open_path / "secret").write_text("secret")
    code = "said['open'] = [fd for fd in range(8192) if attempt(os.fstat, fd) != 'OSError']"
    control = """
    import resource
    sandbox.spawn(policy(), lambda: None).wait()  # all is imported now
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    for _ in range(min(hard, 5000) - 50):
        os.set_inheritable(os.open(o["policy"]["readable"][0], os.O_RDONLY), True)
    os.closerange(60, 90)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))  # now most of them lie above the limit
    print(json.dumps(finish(start(o["code"] + f"; said['given'] = {write}", report=write), read, write)))
    """
    said = caller.inside(code, caller=control, readable=[open_path / "secret"])
    assert said["open"] == sorted([0, 1, 2, said["given"]])


def test_the_caller_is_as_before(caller):
    control = """
    def state():
        return [os.getcwd(), os.getuid(), os.umask(0o022), sorted(os.listdir("/proc/self/fd")), dict(os.environ),
                [str(signal.getsignal(n)) for n in (2, 15, 17)], os.stat("/proc/self/ns/mnt").st_ino,
                Path("/proc/self/uid_map").read_text(), Path("/proc/self/mounts").read_text()]
    os.umask(0o022)
    sandbox.spawn(policy(), lambda: None).wait()
    before = state()
    for _ in range(5):
        sandbox.spawn(policy(), lambda: None).wait()
    print(json.dumps([state() == before, attempt(os.waitpid, -1, 0)]))
    """
    assert caller(caller=control) == [True, "ChildProcessError"]


def test_no_control_group_is_left():
    left = {path for path in Path("/sys/fs/cgroup").rglob("grading-sandbox-*") if str(os.getpid()) in path.name}
    box = sandbox.spawn(sandbox.Policy(readable=sandbox.default_readable(), memory_bytes=1 << 30), lambda: None)
    assert box.wait()["exit"] == 0
    assert not left
    assert not list(Path("/sys/fs/cgroup").rglob(f"grading-sandbox-{box.pid}"))


def test_what_goes_wrong_while_it_is_made_is_said(caller, open_path):
    """A file that is not there cannot be replaced inside a folder that cannot be written."""
    (open_path / "there").mkdir()
    got = caller("", readable=[open_path / "there"], replaced={open_path / "there" / "missing": "x"})
    assert list(got["status"]) == ["error"]
    assert "missing" in got["status"]["error"]
    assert got["said"] is None


def test_where_there_can_be_no_sandbox_it_says_so(caller):
    """The filter of system calls that students have lets nobody make namespaces."""
    control = """
    from grading.sandbox import seccomp, syscalls
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.refuse()
    print(json.dumps([sandbox.unavailable(), sandbox.spawn(None, lambda: None).wait()["exit"]]))
    """
    why, plain = caller(caller=control)
    assert why.startswith("This machine refuses a sandbox: ")
    assert "unshare" in why
    assert plain == 0


# --- without namespaces --------------------------------------------------------------------------------------------
def test_without_a_sandbox_descendants_die_too(caller):
    process = caller.begin(HANG, caller=CONTROL + READY + ENDINGS["closing"], plain=True)
    process.stdout.readline()
    pids = tree(process.pid)
    out, _ = process.communicate("go\n", timeout=10)
    assert len(pids) == 4  # caller, keeper, body, its child
    assert json.loads(out)["signal"] == signal.SIGKILL
    assert gone(pids)


def test_without_a_sandbox_limits_hold(caller):
    control = """
    code = "said['memory'] = attempt(lambda: len(bytearray(300 << 20)))"
    limits = sandbox.Limits(memory_bytes=100 << 20)
    print(json.dumps(finish(start(code, report=write, limits=limits), read, write)))
    """
    got = caller(caller=control)
    assert got["said"] == {"memory": "MemoryError"}
    assert got["status"]["exit"] == 0


@pytest.mark.parametrize("ending", [name for name in ENDINGS if name.startswith("kill")])
def test_without_a_sandbox_the_body_dies_with_its_keeper_and_its_caller(caller, ending):
    process = caller.begin(
        WAITING + "hold()", caller=CONTROL + READY + ENDINGS[ending],
        plain=True,
    )  # fmt: skip
    process.stdout.readline()
    pids = tree(process.pid)
    process.communicate("go\n", timeout=10)
    assert len(pids) == 3
    assert gone(pids)


def test_forks_are_cheaper_and_hold_the_same():
    """A large process whose memory is gathered in huge pages still gives each fork a copy of its own."""
    code = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from grading import sandbox
memory = [bytearray(os.urandom(1 << 20)) for _ in range(64)]
sandbox.cheapen_forks()
if not (pid := os.fork()):
    for part in memory:
        part[:] = bytes(len(part))
    os._exit(0)
os.waitpid(pid, 0)
assert all(any(part) for part in memory)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_end_is_seen_without_the_systems_help(caller):
    """As on systems where a process cannot be waited for together with a pipe."""
    control = """
    del os.pidfd_open
    limits = sandbox.Limits()
    quick = sandbox.spawn(limits, lambda: os._exit(5)).wait()
    killed = sandbox.spawn(limits, lambda: time.sleep(60)).wait(kill=True)
    print(json.dumps([quick["exit"], killed["signal"]]))
    """
    assert caller(caller=control) == [5, 9]


def test_ordinary_programs_run(caller):
    """What notebooks do: threads, processes that share memory, programs, temporary files."""
    code = """
    import multiprocessing, tempfile
    from concurrent.futures import ThreadPoolExecutor
    from multiprocessing import shared_memory
    with ThreadPoolExecutor(4) as threads:
        said["threads"] = sum(threads.map(len, ["a", "bb"]))
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        said["pool"] = pool.map(abs, [-1, -2])
    with context.Manager() as manager:
        said["manager"] = len(manager.list([1, 2, 3]))
    memory = shared_memory.SharedMemory(create=True, size=1 << 16)
    memory.buf[:3] = b"abc"
    said["shared"] = bytes(memory.buf[:3]).decode()
    memory.close()
    memory.unlink()
    with tempfile.NamedTemporaryFile() as f:
        said["temporary"] = f.name.startswith("/tmp/")
    said["shell"] = subprocess.run("echo $HOME | cat", shell=True, capture_output=True, text=True).stdout
    import getpass
    said["environment"] = b"=" in Path("/proc/self/environ").read_bytes()
    said["user"] = getpass.getuser()
    """
    said = caller.inside(code)
    assert said == {
        "threads": 3, "pool": [1, 2], "manager": 3, "shared": "abc", "temporary": True, "shell": "/tmp/work\n",
        "user": "student", "environment": True,
    }  # fmt: skip


def test_a_group_that_a_killed_keeper_left_is_removed():
    if os.geteuid() != 0 or sandbox.cgroups() == "no cgroups":
        pytest.skip(f"NOT TESTED: {sandbox.cgroups()} for this user")
    caller = Caller(0)
    control = """
    from grading.sandbox import groups
    box = sandbox.spawn(policy(), lambda: time.sleep(60))
    while not (left := [p for parent in groups._parents() for p in parent.path.glob(f"*-{box.pid}")]): pass
    os.kill(box.pid, 9)
    box.wait()
    print(json.dumps(list(map(str, left))))
    """
    left = caller(caller=control)
    assert all(Path(path).exists() for path in left)
    limit = time.monotonic() + 5  # the processes in it end a moment later
    while any(Path(path).exists() for path in left) and time.monotonic() < limit:
        caller(caller="print(json.dumps(sandbox.cgroups()))")
    assert not any(Path(path).exists() for path in left)
