"""Models on a machine without a server: direct downloads, and ``--embedded`` over what they left."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_user import DEADLINE_S, User
from huggingface_hub import scan_cache_dir, snapshot_download

from mx.store.whereabouts import FOLDER, leave_note
from mx.testing.fake_hub import FakeHub
from mx.testing.faults import Fault

NAME = "org/model"
WEIGHTS = bytes(range(256)) * 9000
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "model.safetensors": WEIGHTS,
    "nested/part.safetensors": b"weights" * 1000,
}
TOTAL = sum(map(len, FILES.values()))
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def user(tmp_path: Path, hub: FakeHub) -> User:
    home = tmp_path / "home"
    home.mkdir()
    return User(home, {"HF_ENDPOINT": hub.endpoint, "MODEL_EXPRESS_ENDPOINT": NOWHERE})


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.02)


def hub_cache(user: User) -> Path:
    return user.home / ".cache" / "huggingface" / "hub"


def test_a_model_comes_directly_where_no_server_is(user: User, hub: FakeHub) -> None:
    commit = hub.add(NAME, FILES)
    done = user.mx("model", "download", NAME, "-f", "json")
    assert done.code == 0, done.err
    folder = hub_cache(user) / "models--org--model" / "snapshots" / commit
    reason = done.json["fallback_reason"]
    assert "127.0.0.1:9" in reason
    assert done.json == {
        "success": True,
        "message": "downloaded",
        "model_name": NAME,
        "provider": "hugging-face",
        "strategy": "smart-fallback",
        "resolved_revision": commit,
        "path": str(folder),
        "via": "direct",
        "fallback_reason": reason,
        "bytes": TOTAL,
        "files": len(FILES),
    }
    assert "downloading directly" in done.err
    assert snapshot_download(NAME, cache_dir=hub_cache(user), local_files_only=True) == str(folder)
    info = scan_cache_dir(hub_cache(user))
    assert (info.warnings, [repo.repo_id for repo in info.repos]) == ([], [NAME])

    listed = user.json("model", "list", "--embedded", "--detailed")
    assert [(m["name"], m["revision"], m["path"]) for m in listed["models"]] == [(NAME, commit, str(folder))]
    assert listed["total_models"] == 1
    stats = user.json("model", "stats", "--detailed", "--embedded")
    assert (stats["total_models"], stats["detailed_models"]) == (1, listed["models"])
    status = user.json("model", "status", "--embedded")
    assert (status["storage_path"], status["server_endpoint"]) == (str(hub_cache(user)), NOWHERE)
    assert (status["storage_accessible"], status["server_available"]) == (True, False)

    (shown,) = user.json("cache", "show", f"{NAME}@{commit[:7]}", "--embedded")["entries"]
    assert (shown["model"], shown["revision"], shown["path"]) == (NAME, commit, str(folder))
    assert {file["path"]: file["bytes"] for file in shown["file_list"]} == {
        path: len(data) for path, data in FILES.items()
    }
    assert all(len(file["digest"].partition(":")[2]) in (40, 64) for file in shown["file_list"])
    assert (shown["leases"], shown["claim"], shown["shares_with"]) == ([], None, [])

    assert user.mx("model", "download", NAME, "-s", "server-only").code == 4
    offline = user.mx("model", "download", NAME, "-r", commit, "-s", "direct", "-f", "json")
    assert offline.json["message"] == "already in the cache"


def test_two_commands_at_once_fetch_once(user: User, hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    gate = threading.Event()
    hub.fail(Fault("storage:", times=None, gate=gate))
    running = [user.start("model", "download", NAME, "-s", "direct", "-f", "json") for _ in range(3)]
    until(lambda: len(hub.asked("storage:")) == 2)
    gate.set()
    done = [user.end(process) for process in running]
    assert [ran.code for ran in done] == [0, 0, 0], done
    assert len({ran.json["path"] for ran in done}) == 1
    assert len(hub.asked("storage:")) == 2, "each weight file was asked for once"


def test_ctrl_c_ends_a_direct_download_and_the_next_goes_on(user: User, hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    gate = threading.Event()
    large = hashlib.sha256(WEIGHTS).hexdigest()
    hub.fail(Fault(f"storage:/objects/{large}", cut_after=len(WEIGHTS) // 2, gate=gate, times=1))
    process = user.start("model", "download", NAME, "-s", "direct")
    until(lambda: hub.bytes_served >= len(WEIGHTS) // 2)
    stopped = user.end(process, by=signal.SIGINT)
    gate.set()
    assert (stopped.code, stopped.out) == (130, "")
    assert "Traceback" not in stopped.err
    again = user.json("model", "download", NAME, "-s", "direct")
    assert again["message"] == "downloaded"


def test_a_directory_is_a_model_of_its_own(user: User, tmp_path: Path) -> None:
    folder = user.home / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name, options in (
        ("mine", ["--provider", "local"]),
        ("./mine", []),
        (f"file://{folder}", ["-p", "LOCAL"]),
    ):
        done = user.json("model", "download", name, "-s", "direct", *options)
        assert (done["provider"], done["model_name"]) == ("local", str(folder))
        assert done["path"] == f"{hub_cache(user)}/local{folder}"
    assert user.mx("model", "download", "gone", "-p", "local", "-s", "direct").code == 3
    cleared = user.json("model", "clear", "./mine", "--embedded", "--yes")
    assert (cleared["success"], cleared["provider"], cleared["registry_cleared"]) == (True, "local", True)
    assert not Path(done["path"]).exists()
    assert (folder / "config.json").read_text() == "{}", "the original stays"


def test_where_the_cache_is(user: User, tmp_path: Path) -> None:
    def root(*args: str) -> str:
        return str(user.json("model", "status", "--embedded", *args)["storage_path"])

    assert root() == str(hub_cache(user))
    made = user.json("model", "init", "--storage-path", "own", "--server-endpoint", "far:7")
    assert made == {
        "success": True,
        "storage_path": str(user.home / "own"),
        "server_endpoint": "far:7",
        "config_file": str(user.home / ".model-express/config.yaml"),
    }
    assert (user.home / "own").is_dir()
    assert root() == str(user.home / "own")
    user.variables["HF_HUB_CACHE"] = str(tmp_path / "hub")
    assert root() == str(tmp_path / "hub")
    user.variables["MODEL_EXPRESS_CACHE_DIRECTORY"] = str(tmp_path / "variable")
    assert root() == str(tmp_path / "variable")
    assert root("--cache-path", "flag") == str(user.home / "flag")
    del user.variables["MODEL_EXPRESS_ENDPOINT"]
    assert user.json("model", "status", "--embedded")["server_endpoint"] == "http://far:7"
    named = user.json("model", "status", "--embedded", "-e", "near:8")
    assert named["server_endpoint"] == "http://near:8"
    wrong = user.mx("model", "init", "--server-endpoint", "http://", "-f", "json")
    assert (wrong.code, wrong.json["code"]) == (1, "settings")
    assert user.json("model", "status", "--embedded")["server_endpoint"] == "http://far:7"


def test_pins_and_uses_outlive_a_command(user: User, hub: FakeHub) -> None:
    for name in ("org/old", "org/new"):
        hub.add(name, {**FILES, "name.json": name.encode()})
        assert user.mx("model", "download", name, "-s", "direct").code == 0
    assert user.mx("cache", "pin", "org/new", "--for", "1d", "--reason", "demo", "--embedded").code == 0
    assert user.mx("cache", "--embedded", "pin", "org/nothing").code == 3
    plan = user.json("--embedded", "cache", "evict", "--to", "1KiB", "--dry-run")
    assert [one["model"] for one in plan["victims"]] == ["org/old"]
    assert [(one["model"], "demo" in one["reason"]) for one in plan["survivors"]] == [("org/new", True)]
    done = user.mx("cache", "evict", "--to", "1KiB", "--yes", "--embedded", "-f", "json")
    assert (done.code, done.json["executed"]) == (6, True), "the pinned one keeps it above"
    assert done.json["victims"] == [{**plan["victims"][0], "reason": done.json["victims"][0]["reason"]}]
    assert done.json["bytes_freed"] == plan["bytes_freed"] > 0
    assert set(done.json) == set(plan)
    stats = user.json("cache", "stats", "--embedded")
    (run,) = stats["runs"]
    assert [(one["model"], bool(one["reason"])) for one in run["victims"]] == [("org/old", True)]
    assert (run["trigger"], run["bytes_freed"]) == ("command", plan["bytes_freed"])
    assert stats["limits"]["unused_threshold_s"] is None, "a server's defaults are not this machine's"
    kinds = {one["kind"]: one for one in stats["kinds"]}
    assert (kinds["models"]["total"], kinds["models"]["active"]) == (1, 1)
    assert kinds["models"]["reclaimable_bytes"] == 0
    assert user.mx("cache", "unpin", "org/new", "--embedded").code == 0
    assert user.json("cache", "stats", "--embedded")["kinds"][0]["reclaimable_bytes"] >= TOTAL


def test_limits_that_are_set_hold_before_the_first_byte(user: User, hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    (user.home / "model-express.yaml").write_text("cache: {max_size_bytes: 1MiB}\n")
    refused = user.mx("model", "download", NAME, "-s", "direct", "-f", "json")
    assert (refused.code, refused.json["code"]) == (1, "exhausted")
    assert "1.00 MiB" in refused.json["error"]
    assert hub.asked("storage:") == []


def test_embedded_is_said_anywhere_and_only_where_it_has_a_meaning(user: User) -> None:
    for words in (
        ["--embedded", "cache", "list"],
        ["cache", "--embedded", "list"],
        ["cache", "list", "--embedded"],
    ):
        assert user.json(*words)["entries"] == []
    refused = user.mx("source", "list", "--embedded", "-f", "json")
    assert (refused.code, refused.json["code"]) == (2, "usage")
    assert user.mx("model", "download", NAME, "--embedded", "-s", "server-only").code == 2


def flip(path: Path) -> None:
    """One bit, with the times as before: what a dying disk does."""
    target = path.resolve()
    found = target.stat()
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_damage_is_found_kept_from_readers_and_mended_file_by_file(user: User, hub: FakeHub) -> None:
    hub.add("org/sound", {"config.json": b"{}"})
    hub.add(NAME, FILES)
    assert user.mx("model", "download", "org/sound", "-s", "direct").code == 0
    folder = Path(user.json("model", "download", NAME, "-s", "direct")["path"])
    assert user.json("cache", "verify", "--embedded")["sound"] == 2
    assert user.json("model", "validate", NAME, "--embedded")["valid"] is True
    flip(folder / "nested/part.safetensors")
    (folder / "config.json").resolve().unlink()

    found = user.mx("cache", "verify", "--dry-run", "--embedded", "-f", "json")
    assert (found.code, found.json["damaged"], found.json["sound"]) == (7, 1, 1)
    bad = next(one for one in found.json["entries"] if one["model"] == NAME)
    assert {fault["path"]: fault["kind"] for fault in bad["faults"]} == {
        "config.json": "missing",
        "nested/part.safetensors": "digest",
    }
    assert (folder / "nested/part.safetensors").exists(), "a dry run changes nothing"
    invalid = user.mx("model", "validate", NAME, "--embedded", "-f", "json")
    assert (invalid.code, invalid.json["exists"], invalid.json["valid"]) == (7, True, False)
    everything = user.mx("model", "validate", "--embedded", "-f", "json")
    assert (everything.code, everything.json["total_models"]) == (7, 2)

    kept_away = user.mx("cache", "verify", NAME, "--embedded")
    assert kept_away.code == 7
    assert "quarantined" in kept_away.out
    assert "nested/part.safetensors: digest" in kept_away.out
    rows = user.json("cache", "list", "--filter", "status=error", "--embedded")["entries"]
    assert [(row["model"], "config.json" in row["message"]) for row in rows] == [(NAME, True)]
    assert [one["name"] for one in user.json("model", "list", "--embedded")["models"]] == ["org/sound"]

    before = len(hub.asked("storage:"))
    mended = user.mx("cache", "verify", NAME, "--repair", "--embedded", "-f", "json")
    assert (mended.code, mended.json["repaired"]) == (0, 1), mended.err
    assert len(hub.asked("storage:")) == before + 1, "the other weight file was not fetched again"
    assert user.json("cache", "verify", "--embedded")["sound"] == 2
    assert (folder / "nested/part.safetensors").read_bytes() == FILES["nested/part.safetensors"]


def test_what_cannot_be_mended_stays_away_and_says_why(user: User, hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    folder = Path(user.json("model", "download", NAME, "-s", "direct")["path"])
    flip(folder / "model.safetensors")
    hub.add(NAME, FILES, gated=True)
    failed = user.mx("cache", "verify", "--repair", "--embedded", "-f", "json")
    assert (failed.code, failed.json["quarantined"]) == (7, 1)
    assert "gated" in failed.json["entries"][0]["detail"]
    assert user.mx("cache", "verify", "org/other", "--embedded").code == 3
    assert user.mx("model", "validate", "org/other", "--embedded", "-f", "json").json["exists"] is False
    assert user.mx("cache", "verify", "--repair", "--dry-run", "--embedded").code == 2


def test_files_beside_an_entry_fail_only_where_that_is_asked(user: User, hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    folder = Path(user.json("model", "download", NAME, "-s", "direct")["path"])
    (folder / "README.md").write_text("of another tool")
    seen = user.json("cache", "verify", "--embedded")
    assert (seen["sound"], seen["entries"][0]["extras"]) == (1, ["README.md"])
    assert user.mx("cache", "verify", "--fail-on-extra", "--embedded").code == 7


def test_clear_all_takes_what_mx_keeps_and_nothing_else(user: User, hub: FakeHub) -> None:
    for name in ("org/a", "org/b", "org/c"):
        hub.add(name, {**FILES, "name.json": name.encode()})
        assert user.mx("model", "download", name, "-s", "direct").code == 0
    assert user.mx("cache", "pin", "org/b", "--embedded").code == 0
    foreign = hub_cache(user) / "models--org--theirs" / "snapshots" / ("a" * 40)
    foreign.mkdir(parents=True)
    (foreign / "config.json").write_text("{}")
    (hub_cache(user) / "notes.txt").write_text("mine")

    plan = user.json("model", "clear-all", "--dry-run", "--embedded")
    assert [one["model"] for one in plan["victims"]] == ["org/a", "org/c"]
    assert [one["model"] for one in plan["survivors"]] == ["org/b"]
    asked = user.mx("model", "clear-all", "--embedded", "-f", "json")
    assert (asked.code, asked.json["code"], "--yes" in asked.json["remedy"]) == (2, "usage", True)
    assert user.json("model", "list", "--embedded")["total_models"] == 3
    done = user.mx("model", "clear-all", "--yes", "--embedded", "-f", "json")
    assert done.code == 6, "the pinned one stays"
    assert (done.json["registry_records_cleared"], done.json["registry_records_failed"]) == (2, 0)
    assert set(plan) == set(done.json)
    assert done.json["bytes_freed"] == plan["bytes_freed"]
    assert user.json("model", "clear-all", "--yes", "--force", "--embedded")["registry_records_cleared"] == 1
    assert user.json("cache", "list", "--embedded")["entries"] == []
    assert (foreign / "config.json").exists()
    assert (hub_cache(user) / "notes.txt").exists()
    assert not list(hub_cache(user).rglob("*.safetensors"))
    assert user.json("model", "clear-all", "--yes", "--embedded")["registry_records_cleared"] == 0


def test_clear_takes_files_and_record_or_neither(user: User, hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    folder = Path(user.json("model", "download", NAME, "-s", "direct")["path"])
    assert user.mx("cache", "pin", NAME, "--embedded").code == 0
    refused = user.mx("model", "clear", NAME, "--yes", "--embedded", "-f", "json")
    assert (refused.code, refused.json["code"]) == (6, "conflict")
    assert folder.exists()
    plan = user.json("model", "clear", NAME, "--force", "--dry-run", "--embedded")
    assert [one["model"] for one in plan["victims"]] == [NAME]
    assert folder.exists()
    done = user.json("model", "clear", NAME, "--force", "--yes", "--embedded")
    assert done["bytes_freed"] == plan["bytes_freed"] >= TOTAL
    assert set(done) == set(plan)
    assert not folder.exists()
    assert user.mx("model", "clear", NAME, "--yes", "--embedded").code == 3


def test_damaged_entries_without_records_are_found(user: User, hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    folder = Path(user.json("model", "download", NAME, "-s", "direct")["path"])
    for name in (hub_cache(user) / FOLDER).glob(".mx-records.db*"):
        name.unlink()
    (folder / "config.json").resolve().unlink()
    assert user.mx("cache", "verify", "--dry-run", "--embedded").code == 7
    rows = user.json("cache", "list", "--embedded")["entries"]
    assert [(row["model"], row["status"]) for row in rows] == [(NAME, "error")]
    assert user.json("model", "clear", NAME, "--yes", "--embedded")["bytes_freed"] > len(WEIGHTS)


def test_records_that_cannot_be_kept_refuse_pins_only(user: User, hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    hub_cache(user).mkdir(parents=True)
    (hub_cache(user) / FOLDER).write_text("a file where the folder should be")
    assert user.json("model", "download", NAME, "-s", "direct")["success"] is True
    refused = user.mx("cache", "pin", NAME, "--embedded", "-f", "json")
    assert (refused.code, "records can't be kept" in refused.json["error"]) == (6, True)
    assert "MODEL_EXPRESS_DATABASE_PATH" in refused.json["remedy"]
    user.variables["MODEL_EXPRESS_DATABASE_PATH"] = str(user.home / "records.db")
    assert user.mx("cache", "pin", NAME, "--embedded").code == 0
    assert user.json("cache", "list", "--embedded")["entries"][0]["pinned"] is True


def test_the_cache_of_a_server_elsewhere_loses_nothing(user: User, hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    assert user.mx("model", "download", NAME, "-s", "direct").code == 0
    leave_note(hub_cache(user), backend="redis", path=None)
    for words in (
        ["cache", "evict", NAME, "--yes"],
        ["cache", "pin", NAME],
        ["model", "clear", NAME, "--yes"],
        ["model", "clear-all", "--yes"],
    ):
        refused = user.mx(*words, "--embedded", "-f", "json")
        assert refused.code == 6, (words, refused)
        assert "redis" in refused.json.get("error", str(refused.json)), words
    assert user.json("model", "list", "--embedded")["total_models"] == 1
    assert user.json("cache", "verify", "--embedded")["sound"] == 1


def test_damaged_records_are_named_and_left_alone(user: User) -> None:
    folder = hub_cache(user) / FOLDER
    folder.mkdir(parents=True)
    (folder / ".mx-records.db").write_bytes(b"no database, surely" * 100)
    refused = user.mx("cache", "list", "--embedded", "-f", "json")
    assert (refused.code, refused.json["code"]) == (7, "integrity")
    assert (folder / ".mx-records.db").read_bytes().startswith(b"no database")


def test_a_cache_path_that_is_no_folder(user: User) -> None:
    (user.home / "file").write_text("")
    for words in (["cache", "list"], ["model", "status"], ["model", "download", NAME, "-s", "direct"]):
        refused = user.mx(*words, "--embedded", "--cache-path", "file", "-f", "json")
        assert (refused.code, "no folder" in refused.json["error"]) == (6, True), refused


def test_progress_and_talk_never_reach_stdout(user: User, hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    said = user.mx("model", "download", NAME)
    assert len(said.out.splitlines()) == 2
    assert "downloading directly" in said.err
    quiet = user.mx("cache", "verify", "--embedded", "-q")
    assert (quiet.err, "sound" in quiet.out) == ("", True)
