"""From argv to a call of the application, an answer, an error line and a status."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ossmount import __version__, errors
from ossmount.app.finding import Finding
from ossmount.cli import main
from ossmount.cli.catalogue import COMMANDS
from ossmount.cli.command import Command
from ossmount.cli.entry import choose, from_mount_helper
from ossmount.config import ALL_OPTIONS
from tests.support.fake_application import FakeApplication


def run(*words: str, app: FakeApplication | None = None, **environment: str) -> tuple[int, str]:
    """(status, standard output)."""
    out = io.StringIO()
    status = main(words, app=app or FakeApplication(), environment=environment, out=out)
    return status, out.getvalue()


def in_python(code: str) -> subprocess.CompletedProcess[str]:
    """``code`` run by an interpreter of its own."""
    words = [sys.executable, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)


def call(*words: str, **environment: str) -> tuple[str, tuple[Any, ...]]:
    """The one call that a successful command made, without settings."""
    app = FakeApplication()
    assert run(*words, app=app, **environment)[0] == 0
    ((name, arguments),) = app.calls
    return name, tuple(a for a in arguments if type(a).__name__ != "Settings")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mount s3://b/p/ /m", (["s3://b/p/"], "/m", False)),
        ("s3://b/p/ /m", (["s3://b/p/"], "/m", False)),
        ("s3://b/p/ /m -o ro,_netdev,workers=3", (["s3://b/p/"], "/m", False)),
        ("-o ro s3://b/p/ /m -f", (["s3://b/p/"], "/m", True)),
        ("mount -f s3://b/x s3://c/y /m", (["s3://b/x", "s3://c/y"], "/m", True)),
        ("mount --manifest l.tsv --base-uri oss://b/i/ --layout labels /m", ([], "/m", False)),
        ("mount --objects - /m", ([], "/m", False)),
        ("none /m -o manifest=l.tsv,nofail", ([], "/m", False)),
        ("mount --index i /m", ([], "/m", False)),
        ("mount s3://b/p/ -o ro /m --workers 2", (["s3://b/p/"], "/m", False)),
    ],
)
def test_forms_of_mount(line: str, expected: tuple[Any, ...]) -> None:
    assert call(*shlex.split(line)) == ("mount", expected)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("mount /m", "no source is given beside mountpoint '/m'"),
        ("mount", "missing: SOURCE MOUNTPOINT"),
        ("mount --manifest a --objects b /m", "two sources"),
        ("mount --manifest a s3://b /m", "'s3://b' and --manifest are two sources"),
        ("umuont /m", "did you mean 'umount'?"),
        ("index", "one of: index build, index refresh"),
        ("index bild a b", "'bild' is not known"),
        ("view", "view what?; one of: view create, view show"),
        ("view shwo a", "view 'shwo' is not known; one of: view create, view show"),
        ("umount", "missing: MOUNTPOINT"),
        ("list --jason", "--jason"),
    ],
)
def test_mistakes_are_one_line(line: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = run(*shlex.split(line))
    error = capsys.readouterr().err
    assert (status, out) == (2, "")
    assert error.startswith("ossmount: ")
    assert complaint in error
    assert error.count("\n") == 1


def test_settings_reach_the_application() -> None:
    app = FakeApplication()
    run("s3://b", "/m", "-o", "cache-size=1G", app=app, OSSMOUNT_WORKERS="7")
    assert app.settings.cache.cache_size == 1 << 30
    assert app.settings.mount.workers == 7


def test_help_command_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("help", "index", "ls")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ossmount index ls")


@pytest.mark.parametrize(
    "words", [("--help",), ("-h",), ("help",), ("index", "--help"), ("help", "index"), ("view", "-h")]
)
def test_overview_names_every_command(words: tuple[str, ...]) -> None:
    status, out = run(*words)
    assert status == 0
    assert [command.name for command in COMMANDS if command.name not in out] == []


def test_no_words_show_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == (2, "")
    assert "commands:" in capsys.readouterr().err


def test_version() -> None:
    assert run("--version") == (0, f"ossmount {__version__}\n")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_examples_parse(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The live view goes on until Ctrl-C; here it looks once.
    monkeypatch.setattr("ossmount.cli.live_view.watch", lambda read, mountpoint, out: read())
    for _, line in command.examples:
        words = shlex.split(line.partition("<")[0])
        if words[0] != "ossmount":  # a line of fstab: spec, directory, type, options
            words = ["ossmount", *words[:2], "-o", words[3]]
        export = [str(tmp_path / w) if w.endswith(".tsv") else w for w in words[1:]]
        app = FakeApplication()
        # The fake application's verify finds a difference.
        assert run(*export, app=app)[0] == (1 if command.words == ("verify",) else 0)
        assert len(app.calls) == (0 if command.words == ("completion",) else 1)


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (errors.SettingsError("what", "do"), 2),
        (errors.ManifestError("l.tsv", 7, "what", "do"), 3),
        (errors.IndexDamaged("what", "do"), 4),
        (errors.AccessDenied("what", "do"), 5),
        (errors.MountpointUnusable("what", "do"), 6),
        (errors.CacheError("what", "do"), 7),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("oh"), 70),
    ],
)
def test_errors_are_a_line_and_a_status(
    failure: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("s3://b", "/m", app=FakeApplication(failure)) == (status, "")
    error = capsys.readouterr().err
    assert error.startswith("ossmount: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    if isinstance(failure, errors.OssmountError):
        assert error.endswith("what; do\n")


@pytest.mark.parametrize("words", [("--log-level", "debug"), ("-o", "log-level=debug")])
def test_debug_shows_the_traceback(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    run("s3://b", "/m", *words, app=FakeApplication(errors.AccessDenied("what")))
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.endswith("ossmount: what\n")


@pytest.mark.parametrize(
    ("words", "environment"), [(("--log-format", "json"), {}), ((), {"OSSMOUNT_LOG_FORMAT": "json"})]
)
@pytest.mark.parametrize("failure", [errors.AccessDenied("what", "do"), ZeroDivisionError("oh")])
def test_an_error_is_an_object_where_the_log_is(
    words: tuple[str, ...],
    environment: dict[str, str],
    failure: Exception,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("s3://b", "/m", *words, app=FakeApplication(failure), **environment)
    said = json.loads(capsys.readouterr().err)
    assert (said["level"], said["logger"]) == ("error", "ossmount")
    assert said["message"].startswith(("what; do", "internal error: ZeroDivisionError: oh"))
    assert "error" not in said, "the traceback is for --log-level debug"


def test_a_mistake_on_the_command_line_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("mount", "--log-format", "json", "--log-level", "debug", "--no-such-flag", "s3://b", "/m")
    assert run(*words) == (2, "")
    said = json.loads(capsys.readouterr().err)
    assert "--no-such-flag" in said["message"]
    assert "Traceback" in said["error"]


def test_an_error_with_control_characters_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run("s3://b", "/m", app=FakeApplication(errors.StoreError("key 'a\nb\x1b[2J' \udcff")))
    assert capsys.readouterr().err == "ossmount: key 'a\\nb\\x1b[2J' \\udcff\n"


def test_umount() -> None:
    assert call("umount", "/m") == ("umount", ("/m", False))
    assert call("umount", "--lazy", "/m") == ("umount", ("/m", True))


def test_list() -> None:
    _, out = run("list")
    assert out.splitlines() == [
        "MOUNTPOINT  SOURCE     SINCE",
        "/mnt/a b    s3://b/p/  2023-11-14T22:13:20Z",
    ]
    assert json.loads(run("list", "--json")[1])[0]["mountpoint"] == "/mnt/a b"


def test_stats() -> None:
    assert run("stats", "/m")[1] == "store.get_requests  1,234\ncache.hits          5\n"
    assert json.loads(run("stats", "/m", "--json")[1]) == {
        "store": {"get_requests": 1234},
        "cache": {"hits": 5},
    }


def test_index_build() -> None:
    assert call("index", "build", "s3://b/p/", "i") == ("build_index", (["s3://b/p/"], "i"))
    status, out = run("index", "build", "--manifest", "l.tsv", "i", "--json")
    assert (status, json.loads(out)["files"]) == (0, 2)


def test_index_info() -> None:
    _, out = run("index", "info", "i")
    assert "bytes        3,145,728 (3.0 MiB)\n" in out
    assert "labels       2: cat, dog\n" in out
    assert "options      --layout=labels\n" in out
    assert json.loads(run("index", "info", "--json", "i")[1])["labels"] == ["cat", "dog"]


def test_index_ls() -> None:
    assert run("index", "ls", "i", "d")[1] == "a\\udcff\\nb\nü/\n"
    assert "7 2023-11-14T22:13:20Z a" in run("index", "ls", "-l", "i")[1]
    rows = json.loads(run("index", "ls", "--json", "i")[1])
    assert rows[0]["name"].encode("utf-8", "surrogateescape") == b"a\xff\nb"
    assert [row["kind"] for row in rows] == ["file", "directory"]


def test_index_export(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    assert run("index", "export", "i", str(target)) == (0, f"{target}: 1 rows\n")
    assert target.read_bytes() == b"key\tsize\na\t7\n"


def test_a_pipe_or_device_is_written_and_not_replaced(tmp_path: Path) -> None:
    """``/dev/stdout`` and ``/dev/null`` would be files afterwards, for everybody, where root writes."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDWR)
    try:
        assert run("index", "export", "i", str(pipe))[0] == 0
        assert os.read(reading, 1 << 16)
        assert run("index", "refresh", "i", "--report", str(pipe))[0] == 0
        assert os.read(reading, 1 << 16).startswith(b"what\tpath\n")
    finally:
        os.close(reading)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_failed_export_leaves_what_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.tsv"
    target.write_text("old")
    broken = FakeApplication(errors.IndexDamaged("what"))
    assert run("index", "export", "i", str(target), app=broken)[0] == 4
    assert [p.name for p in tmp_path.iterdir()] == ["out.tsv"]
    assert target.read_text() == "old"
    assert run("index", "export", "i", str(tmp_path / "no" / "where"))[0] == 2
    assert "No such file" in capsys.readouterr().err


def test_index_report() -> None:
    assert run("index", "report", "i")[1] == "kind\tkey\tname\nescaped\ta//b\ta/%/b\n"
    assert json.loads(run("index", "report", "--json", "i")[1])[0]["key"] == "a//b"


def test_doctor() -> None:
    findings = [
        Finding("a", True, "fine"),
        Finding("b", None, "so so", "try"),
        Finding("c", False, "bad", "do"),
    ]
    status, out = run("doctor", "s3://b", app=FakeApplication(findings=findings))
    assert status == 1
    assert out == "ok    a: fine\n?     b: so so\n      -> try\nFAIL  c: bad\n      -> do\n"
    status, out = run("doctor", "--json", app=FakeApplication(findings=findings[:2]))
    assert (status, [f["ok"] for f in json.loads(out)]) == (0, [True, None])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["src", "dir", "-o", "ro"], ["mount", "src", "dir", "-o", "ro"]),
        (["src", "dir", "-n", "-v", "-N", "7"], ["mount", "src", "dir"]),
        (["src", "dir", "-sfn", "-t", "fuse.ossmount"], ["mount", "--sloppy", "--fake", "src", "dir"]),
    ],
)
def test_words_of_mount8(words: list[str], expected: list[str]) -> None:
    assert from_mount_helper(words) == expected


def test_a_fake_mount_checks_and_does_nothing() -> None:
    app = FakeApplication()
    assert run("mount", "--fake", "--sloppy", "s3://b", "/m", "-o", "zzz", app=app)[0] == 0
    assert app.calls == []


def test_a_local_directory_may_be_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    assert choose(["images", "/m"])[0].name == "mount"


def test_help_shows_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("mount", "--help")
    text = capsys.readouterr().out
    assert [name for name in ALL_OPTIONS if f"--{name.replace('_', '-')}" not in text] == []


def test_help_imports_no_client() -> None:
    """``--help`` is quick because nothing heavy is imported; time itself is too noisy to test."""
    code = (
        "import sys; from ossmount.cli import main\n"
        "try: main(['mount', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'boto3', 'oss2', 'obstore', 'opendal', 'lmdb', 'pyfuse3', 'trio', 'rich', 'numpy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = in_python(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m ossmount mount --help | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_full_disk_is_no_error_of_ours(unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ossmount", "--version"],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
        )  # fmt: skip
    expected = "ossmount: standard output or a temporary file cannot be written: No space left on device;"
    assert (done.returncode, done.stderr) == (1, f"{expected} make room, or write elsewhere\n")


@pytest.mark.parametrize(
    "redirected",
    ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"],
)
def test_the_status_is_told_where_no_line_can_be(redirected: str) -> None:
    """Scripts tell failures apart by it, services with closed streams too."""
    command = f"unset PYTHONUNBUFFERED; {shlex.quote(sys.executable)} -m ossmount index info /nowhere.ossidx"
    words = ["bash", "-c", f"{command} {redirected}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (4, "")


def test_an_interrupt_is_one_line_from_the_first_import_on() -> None:
    code = (
        "import sys\nclass Interrupted:\n  def find_spec(self, name, *_):\n"
        "    if name == 'ossmount.cli.entry': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\nfrom ossmount.cli import main\nsys.exit(main(['list']))"
    )
    done = in_python(code)
    assert (done.returncode, done.stderr) == (130, "ossmount: interrupted\n")


def test_closed_streams_are_open_for_what_a_command_runs() -> None:
    code = (
        "import os, sys; from ossmount.cli import main; sys.argv = ['ossmount', '--version']\n"
        "status = main(); links = {os.readlink(f'/proc/self/fd/{n}') for n in range(3)}\n"
        "sys.exit(status if links == {'/dev/null'} and sys.stdin and sys.stdout and sys.stderr else 99)"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], timeout=30, check=False).returncode == 0


def test_a_signal_while_the_process_ends_makes_no_failure_of_what_is_done() -> None:
    """Of a mount that serves: whoever sees the command fail believes that there is none."""
    code = (
        "import os, signal, sys; from ossmount.cli import main; sys.argv = ['ossmount', '--version']\n"
        "status = main(); os.kill(os.getpid(), signal.SIGTERM); sys.exit(status)"
    )
    assert in_python(code).returncode == 0
