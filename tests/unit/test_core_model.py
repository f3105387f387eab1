"""Names, revisions and paths from outside: one spelling each, and none that leaves its directory."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mx.core.model import (
    WEIGHT_SUFFIXES,
    EntryKey,
    ListedFile,
    Listing,
    ModelRef,
    ProviderName,
    canonical_name,
    check_revision,
    is_commit,
    is_kept_file,
    is_weight_file,
    safe_relative_path,
)
from mx.errors import InvalidArgumentError

HF, NGC, S3, GCS, LOCAL = (
    ProviderName.HUGGING_FACE,
    ProviderName.NGC,
    ProviderName.S3,
    ProviderName.GCS,
    ProviderName.LOCAL,
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
# Text out of what paths, addresses and attacks on them are made of.
_PIECES = [
    *"abcAZ019._-/:\\@+ %~\0\n\x7fé",
    "\ud800",
    "..",
    "//",
    "/../",
    "s3://b/",
    "gs://b/",
    "file:///",
    "%2e",
]
nasty = st.lists(st.sampled_from(_PIECES), max_size=20).map("".join)


@pytest.mark.parametrize(
    ("provider", "name", "canonical"),
    [
        (HF, "Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        (HF, "gpt2", "gpt2"),
        (HF, "org_1/a.b-c_d", "org_1/a.b-c_d"),
        (NGC, "nvidia/llama:1.0", "nvidia/models/llama/1.0"),
        (NGC, "nvidia/llama/1.0", "nvidia/models/llama/1.0"),
        (NGC, "ngc://nvidia/llama/1.0", "nvidia/models/llama/1.0"),
        (NGC, "nvidia/models/llama/1.0", "nvidia/models/llama/1.0"),
        (NGC, "nvidia/nemo/llama:1.0", "nvidia/nemo/models/llama/1.0"),
        (NGC, "nvidia/nemo/llama/1.0", "nvidia/nemo/models/llama/1.0"),
        (NGC, "nvidia/nemo/models/llama/1.0", "nvidia/nemo/models/llama/1.0"),
        (S3, "S3://bucket/prefix/", "s3://bucket/prefix"),
        (S3, "s3://bucket/a b/ü", "s3://bucket/a b/ü"),
        (GCS, "gs://bucket/prefix//", "gs://bucket/prefix"),
        (LOCAL, "/models/a/", "/models/a"),
        (LOCAL, "/models//a", "/models/a"),
        (LOCAL, "file:///models/a", "/models/a"),
        (LOCAL, "file:///models/my%20model", "/models/my model"),
        (LOCAL, "/models/100%25", "/models/100%25"),
        (LOCAL, "/", "/"),
    ],
)
def test_each_name_has_one_spelling(provider: ProviderName, name: str, canonical: str) -> None:
    assert canonical_name(provider, name) == canonical


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        *(
            (provider, name)
            for provider in ProviderName
            for name in ("", "a\0b", "a\nb", "x" * 1025, "..", "\x7f")
        ),
        *(
            (HF, name)
            for name in ("a/b/c", "/a", "a/", "../a", "a/..", "a--b/c", "-a", "a.", ".a/b", "a b", "é/a")
        ),
        *(
            (NGC, name)
            for name in ("a", "a/b", "a/../b", "a/b:..", "a/b/c/d/e/f", "a/b:c:d", "a//b", "/a/b/c")
        ),
        *((S3, name) for name in ("bucket/x", "gs://b/x", "s3://b", "s3:///x", "s3://b//x", "s3://b/../x")),
        *(
            (S3, f"s3://{bucket}/m")
            for bucket in ("a@b", "a:1", "a#", "a?", "-a", "a.", "a b", "ü", "a" * 223)
        ),
        *((GCS, name) for name in ("s3://b/x", "gs://b/./x", "gs://b/x\\y", "gs://b/C:/x", "gs://b/")),
        *((LOCAL, name) for name in ("models/a", "/a/../b", "/a/./b", "/a\\b", "file://host/a", "~/a")),
        *(
            (LOCAL, name)
            for name in ("file:///a/%2e%2e/b", "file:///a%00b", "file:///a%0ab", "file:///a%5cb")
        ),
        (LOCAL, "file:///%ff"),
    ],
)
def test_malformed_names_are_refused_in_words(provider: ProviderName, name: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        canonical_name(provider, name)
    assert len(caught.value.message) < 300
    assert "\0" not in caught.value.message


@given(st.sampled_from(ProviderName), nasty | st.text(max_size=30))
@example(NGC, "a/models/b/c:1")
def test_a_canonical_name_stays_as_it_is_and_has_no_way_up(provider: ProviderName, name: str) -> None:
    try:
        canonical = canonical_name(provider, name)
    except InvalidArgumentError:
        return
    assert canonical_name(provider, canonical) == canonical
    assert ".." not in canonical.split("/")
    assert not any(ord(char) < 0x20 for char in canonical)


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/12", "feature/x-y_z", "a.b", "0" * 39, "é"])
def test_revisions_pass_as_they_are(revision: str) -> None:
    assert check_revision(HF, revision) == revision


def test_commits_are_lower_case() -> None:
    assert check_revision(HF, COMMIT.upper()) == COMMIT
    assert is_commit(COMMIT)
    assert not is_commit(COMMIT.upper())
    assert not is_commit(COMMIT[:-1])
    assert not is_commit(COMMIT + "\n")


@given(nasty)
@example("/etc/passwd")
@example("../../etc")
@example("a\\b")
@example("a//b")
@example(" ")
@example("é" * 200)
def test_a_revision_never_leaves_its_directory(revision: str) -> None:
    try:
        accepted = check_revision(HF, revision)
    except InvalidArgumentError:
        return
    assert posixpath.normpath(posixpath.join("/refs", accepted)) == f"/refs/{accepted}"
    assert "\\" not in accepted
    assert "\0" not in accepted
    assert len(accepted.encode()) <= 255


@given(nasty | st.text(max_size=40))
@example("a/../../b")
@example("C:/x")
def test_a_path_never_leaves_its_directory(path: str) -> None:
    try:
        accepted = safe_relative_path(path)
    except InvalidArgumentError:
        return
    assert accepted == path
    assert posixpath.normpath(posixpath.join("/entry", path)) == f"/entry/{path}"
    assert "\0" not in path
    assert "\\" not in path


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", ".", "..", "a/..", "./a", "a\0", "a\\b", "c:/a", "x" * 256]
)
def test_unsafe_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgumentError, match="unsafe"):
        safe_relative_path(path)


def test_text_that_no_file_system_holds_is_refused_in_words() -> None:
    """A lone surrogate: JSON can carry it, UTF-8 can't."""
    with pytest.raises(InvalidArgumentError):
        safe_relative_path("a\ud800")
    with pytest.raises(InvalidArgumentError):
        check_revision(HF, "a\ud800")
    with pytest.raises(InvalidArgumentError):
        canonical_name(LOCAL, "/a\ud800")


def test_only_the_hub_has_revisions() -> None:
    for provider in ProviderName:
        assert check_revision(provider, None) is None
        if provider is not HF:
            with pytest.raises(InvalidArgumentError, match="no revisions"):
                check_revision(provider, "main")


@pytest.mark.parametrize("suffix", WEIGHT_SUFFIXES)
def test_weight_files_by_suffix_as_published_clients_do(suffix: str) -> None:
    assert is_weight_file(f"sub/model{suffix}")
    assert not is_weight_file(f"sub/model{suffix.upper()}")
    assert not is_weight_file(f"model{suffix}.json")
    assert is_kept_file(f"model{suffix}")
    assert not is_kept_file(f"model{suffix}", weights=False)


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("config.json", True),
        ("sub/deep/config.json", True),
        ("README.md", False),
        ("sub/README.md", False),
        ("readme.md", True),
        ("README.md.json", True),
        ("a.png", False),
        ("sub/a.JPEG", False),
        ("a.svg", False),
        ("png", True),
        (".gitattributes", False),
        ("sub/.hidden", False),
        (".cache/x/config.json", False),
        ("sub/.mx/manifest.json", False),
        ("a.b/c.json", True),
    ],
)
def test_what_is_kept(path: str, kept: bool) -> None:
    assert is_kept_file(path) is kept


def test_how_things_are_named_to_people() -> None:
    assert str(ModelRef(HF, "org/m")) == "org/m"
    assert str(ModelRef(HF, "org/m", "v1")) == "org/m@v1"
    assert str(EntryKey(HF, "org/m", COMMIT)) == "org/m@0123456789ab"
    assert str(EntryKey(S3, "s3://b/p", "", weights=False)) == "s3://b/p (metadata)"
    listing = Listing(EntryKey(HF, "org/m", COMMIT), (ListedFile("a", 3), ListedFile("b", 4)))
    assert listing.total_bytes == 7
