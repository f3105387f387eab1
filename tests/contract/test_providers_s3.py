"""The provider ``s3``: checksums, credentials, regions, and what stores say when they refuse."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from mx.core.model import EntryKey, ModelRef, ProviderName
from mx.errors import (
    IntegrityError,
    InvalidArgumentError,
    MxError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    SettingsError,
    UnauthenticatedError,
    UnavailableError,
)
from mx.providers.aws import (
    INSTALL,
    Keys,
    aws_address,
    endpoint_address,
    find_botocore_keys,
    require_region,
)
from mx.providers.s3 import S3Provider
from mx.testing.bucket_stores import BUCKET, S3Store, opened, rules
from mx.testing.fault_proxy import FaultProxy
from mx.testing.faults import Fault
from mx.testing.object_servers import SeaweedFs
from mx.testing.pauses import Pauses
from mx.testing.provider_contract import FILES, Counted, file_of, listing_of

DATA = bytes(range(256)) * 100


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with opened("s3", tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def proxy(store: S3Store) -> Iterator[FaultProxy]:
    with FaultProxy(store.endpoint) as proxy:
        yield proxy


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def provider(store: S3Store, proxy: FaultProxy, pauses: Pauses) -> AsyncIterator[S3Provider]:
    provider = store.provider(proxy.endpoint, pauses)
    yield provider
    await provider.close()


async def fetch(provider: S3Provider, ref: ModelRef, path: str, into: Path) -> None:
    listing = await listing_of(provider, ref)
    await provider.fetch(listing.key, file_of(listing, path), into, offset=0, progress=Counted())


# checksums


@pytest.mark.parametrize("algorithm", ["SHA256", "CRC64NVME", "CRC32C", "CRC32"])
async def test_a_checksum_that_the_store_keeps_is_listed_and_checked(
    store: S3Store, provider: S3Provider, proxy: FaultProxy, tmp_path: Path, algorithm: str
) -> None:
    ref = store.put({})
    key = f"{ref.name.partition(f'{BUCKET}/')[2]}/weights.bin"
    store.client.put_object(Bucket=BUCKET, Key=key, Body=DATA, ChecksumAlgorithm=algorithm)
    [file] = (await listing_of(provider, ref)).files
    assert file.digest.startswith(f"{algorithm.lower()}:")
    proxy.fail(Fault("GET:.*weights", corrupt=True))
    with pytest.raises(IntegrityError, match=algorithm.lower()):
        await fetch(provider, ref, "weights.bin", tmp_path / "part")
    await fetch(provider, ref, "weights.bin", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA


def upload_in_parts(store: S3Store, key: str, *, algorithm: str, kind: str) -> bytes:
    """Two parts, as tools upload what is large."""
    parts = [b"a" * (5 << 20), b"the rest"]
    about = {"Bucket": BUCKET, "Key": key}
    upload = store.client.create_multipart_upload(**about, ChecksumAlgorithm=algorithm, ChecksumType=kind)[
        "UploadId"
    ]
    done = []
    for number, body in enumerate(parts, start=1):
        told = store.client.upload_part(
            **about, UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm
        )
        sums = {name: value for name, value in told.items() if name.startswith("Checksum")}
        done.append({"PartNumber": number, "ETag": told["ETag"], **sums})
    store.client.complete_multipart_upload(**about, UploadId=upload, MultipartUpload={"Parts": done})
    return b"".join(parts)


@pytest.mark.parametrize(
    ("algorithm", "kind", "listed"),
    [("CRC64NVME", "FULL_OBJECT", "crc64nvme:"), ("CRC32", "COMPOSITE", "")],
)
async def test_checksums_of_checksums_are_not_taken_for_one_of_the_content(
    store: S3Store, provider: S3Provider, tmp_path: Path, algorithm: str, kind: str, listed: str
) -> None:
    ref = store.put({})
    key = f"{ref.name.partition(f'{BUCKET}/')[2]}/weights.bin"
    data = upload_in_parts(store, key, algorithm=algorithm, kind=kind)
    [file] = (await listing_of(provider, ref)).files
    assert (file.digest.partition(":")[0], file.digest.partition(":")[1]) == listed.partition(":")[:2]
    assert file.etag.endswith("-2")
    await fetch(provider, ref, "weights.bin", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == data


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, f"md5:{hashlib.md5(DATA).hexdigest()}"),
        ({"x-amz-server-side-encryption": "AES256"}, f"md5:{hashlib.md5(DATA).hexdigest()}"),
        ({"x-amz-server-side-encryption": "aws:kms"}, ""),
        ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, ""),
        ({"x-amz-checksum-crc32c": "4waSgw=="}, "crc32c:e3069283"),
        ({"x-amz-checksum-crc32c": "4waSgw==-3"}, f"md5:{hashlib.md5(DATA).hexdigest()}"),
        (
            {"x-amz-checksum-crc32c": "4waSgw==", "x-amz-checksum-type": "COMPOSITE"},
            f"md5:{hashlib.md5(DATA).hexdigest()}",
        ),
        ({"x-amz-checksum-sha256": "rubbish", "x-amz-checksum-crc32": "y/Q5Jg=="}, "crc32:cbf43926"),
    ],
)
async def test_which_header_is_a_digest(
    store: S3Store, provider: S3Provider, proxy: FaultProxy, headers: dict[str, str], expected: str
) -> None:
    ref = store.put({"weights.bin": DATA})
    told = {"ETag": f'"{hashlib.md5(DATA).hexdigest()}"', "Content-Length": str(len(DATA))}
    proxy.fail(Fault("HEAD:.*weights", body=b"", headers=told | headers))
    [file] = (await listing_of(provider, ref)).files
    assert file.digest == expected


async def test_heads_are_asked_for_once_for_each_version(
    store: S3Store, provider: S3Provider, proxy: FaultProxy
) -> None:
    ref = store.put(FILES)
    first = await listing_of(provider, ref)
    asked = len(proxy.asked("HEAD:"))
    assert asked == len(first.files)
    assert await listing_of(provider, ref) == first
    assert len(proxy.asked("HEAD:")) == asked
    store.put({"config.json": b"new"}, folder=ref.name.partition(f"{BUCKET}/")[2])
    again = await listing_of(provider, ref)
    assert file_of(again, "config.json") != file_of(first, "config.json")
    assert len(proxy.asked("HEAD:")) == asked + 1


async def test_every_read_names_the_version(
    store: S3Store, provider: S3Provider, proxy: FaultProxy, tmp_path: Path
) -> None:
    ref = store.put({"weights.bin": DATA * 10})
    await fetch(provider, ref, "weights.bin", tmp_path / "part")
    reads = proxy.asked("GET:.*weights")
    [file] = (await listing_of(provider, ref)).files
    assert len(reads) == 3
    assert {one.headers["if-match"] for one in reads} == {f'"{file.etag}"'}


async def test_an_object_that_goes_while_it_is_listed(
    store: S3Store, provider: S3Provider, proxy: FaultProxy
) -> None:
    ref = store.put(FILES)
    proxy.fail(Fault("HEAD:.*config", status=404, body=b""))
    with pytest.raises(PreconditionError, match=r"config\.json changed since it was listed"):
        await listing_of(provider, ref)


# who asks


@pytest.mark.parametrize(
    ("keys", "kind", "said"),
    [
        (Keys(SeaweedFs.denied_key, SeaweedFs.denied_secret), PermissionDeniedError, "s3:ListBucket"),
        (Keys(SeaweedFs.access_key, "wrong secret"), UnauthenticatedError, "secret key is not that"),
        (Keys("NOBODYS0000000000000", "secret"), UnauthenticatedError, "AWS_ACCESS_KEY_ID"),
        (None, PermissionDeniedError, "no AWS credentials were found"),
    ],
)
async def test_who_may_not_read_is_told_why(
    store: S3Store, proxy: FaultProxy, keys: Keys | None, kind: type[MxError], said: str
) -> None:
    ref = store.put(FILES)
    provider = store.provider(proxy.endpoint, Pauses(), find_keys=lambda: keys)
    with pytest.raises(kind) as caught:
        await provider.resolve(ref)
    assert said in str(caught.value)
    assert ref.name in caught.value.message
    assert keys is None or keys.secret_key not in str(caught.value)
    assert len(proxy.asked("")) == 1, "a refusal is not asked for again"
    await provider.close()


async def test_strangers_read_public_buckets(store: S3Store, proxy: FaultProxy, tmp_path: Path) -> None:
    ref = store.put({"config.json": b"{}"}, bucket="open")
    provider = store.provider(proxy.endpoint, Pauses(), find_keys=lambda: None)
    await fetch(provider, ref, "config.json", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == b"{}"
    assert {one.authorization for one in proxy.asked("")} == {""}
    await provider.close()


async def test_the_token_of_temporary_credentials_is_sent_and_signed(
    store: S3Store, proxy: FaultProxy
) -> None:
    provider = store.provider(proxy.endpoint, Pauses(), find_keys=lambda: Keys("AK", "SK", "the-token"))
    with pytest.raises(MxError) as caught:
        await provider.resolve(store.put(FILES))
    [one] = proxy.asked("")
    assert one.headers["x-amz-security-token"] == "the-token"
    assert "x-amz-security-token" in one.authorization
    assert "the-token" not in str(caught.value)
    await provider.close()


async def test_the_token_is_not_sent_where_a_redirect_leads(store: S3Store, proxy: FaultProxy) -> None:
    provider = store.provider(proxy.endpoint, Pauses(), find_keys=lambda: Keys("AK", "SK", "the-token"))
    with FaultProxy(store.endpoint) as elsewhere:
        proxy.fail(Fault("GET:", status=307, headers={"Location": f"{elsewhere.endpoint}/stolen"}))
        elsewhere.fail(Fault("GET:", status=403, times=None))
        with pytest.raises(MxError):
            await provider.resolve(store.put(FILES))
        for one in elsewhere.asked(""):
            assert not any(name.startswith("x-amz") for name in one.headers)
            assert one.authorization == ""
    await provider.close()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder without credentials, on a machine without a role."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / ".aws").mkdir()
    return tmp_path


def test_credentials_come_from_the_standard_places(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = find_botocore_keys(believed_s=0)
    assert find() is None
    profiles = machine / ".aws" / "credentials"
    profiles.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\n")
    assert find() == Keys("A", "B")
    profiles.write_text("[default]\naws_access_key_id = A2\naws_secret_access_key = B2\n")
    assert find() == Keys("A2", "B2"), "a new key is used without a restart"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "C")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "D")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "E")
    assert find() == Keys("C", "D", "E")


async def test_credentials_that_are_broken_are_named(
    store: S3Store, proxy: FaultProxy, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    provider = store.provider(proxy.endpoint, Pauses(), find_keys=find_botocore_keys())
    with pytest.raises(UnauthenticatedError, match="nobody") as caught:
        await provider.resolve(store.put(FILES))
    assert "AWS_PROFILE" in caught.value.remedy
    await provider.close()


def test_without_botocore_the_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(PreconditionError, match="botocore") as caught:
        S3Provider()
    assert caught.value.remedy == INSTALL


# where a bucket is


@pytest.mark.parametrize(
    ("bucket", "region", "expected"),
    [
        ("models", "eu-west-1", "https://models.s3.eu-west-1.amazonaws.com"),
        ("mo.dels", "us-east-1", "https://s3.us-east-1.amazonaws.com/mo.dels"),
        ("OldModels", "us-east-1", "https://s3.us-east-1.amazonaws.com/OldModels"),
        ("models", "cn-north-1", "https://models.s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_addresses_of_aws(bucket: str, region: str, expected: str) -> None:
    assert aws_address(bucket, region) == expected


@pytest.mark.parametrize("region", ["", "us east 1", "evil.com/", "us-east-1.evil.com", "US-EAST-1"])
def test_what_is_no_region_is_refused(region: str) -> None:
    with pytest.raises(SettingsError, match="AWS_REGION"):
        require_region(region)


@pytest.mark.parametrize(
    ("text", "allow_http", "expected"),
    [
        ("https://store:9000/", False, "https://store:9000"),
        ("http://store:9000", False, "http://store:9000"),
        ("store:9000", False, "https://store:9000"),
        ("store:9000", True, "http://store:9000"),
        ("http://[::1]:9000/s3/", False, "http://[::1]:9000/s3"),
    ],
)
def test_addresses_of_other_stores(text: str, allow_http: bool, expected: str) -> None:
    assert endpoint_address(text, allow_http=allow_http) == expected


@pytest.mark.parametrize(
    "text", ["ftp://store", "https://", "http://me:pass@store", "https://store?x=1", "http://store:port"]
)
def test_what_is_no_address_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL") as caught:
        endpoint_address(text, allow_http=True)
    assert "pass" not in str(caught.value).replace("password", "")


async def test_aws_is_asked_where_a_bucket_is(store: S3Store, pauses: Pauses, tmp_path: Path) -> None:
    ref = store.put({"config.json": b"{}"})
    with FaultProxy(store.endpoint) as here, FaultProxy(store.endpoint) as there:
        where = {"us-east-1": here.endpoint, "eu-west-1": there.endpoint}
        told = {"x-amz-bucket-region": "eu-west-1"}
        here.fail(Fault("HEAD:", times=None, status=301, headers=told))
        provider = S3Provider(
            find_keys=lambda: store.keys,
            address=lambda bucket, region: f"{where[region]}/{bucket}",
            rules=rules(pauses),
        )
        await fetch(provider, ref, "config.json", tmp_path / "part")
        assert (tmp_path / "part").read_bytes() == b"{}"
        [asked] = here.asked("")
        assert asked.authorization == ""
        assert all("/eu-west-1/s3/" in one.authorization for one in there.asked(""))
        await provider.close()


async def test_a_bucket_that_is_a_host_of_its_own_is_listed_at_its_root(
    store: S3Store, pauses: Pauses, proxy: FaultProxy
) -> None:
    """As at AWS. Signed is the path as it is sent, so there must be one."""
    proxy.fail(Fault("GET:", body=page(OBJECT.format(key="a", size="1")), times=None))
    provider = S3Provider(
        find_keys=lambda: store.keys, address=lambda bucket, region: proxy.endpoint, rules=rules(pauses)
    )
    await provider.resolve(ModelRef(ProviderName.S3, f"s3://{BUCKET}/m"))
    [listed] = proxy.asked("GET:")
    assert listed.path.startswith("/?list-type=2&")
    assert "Signature=" in listed.authorization
    await provider.close()


@pytest.mark.parametrize("told", ["", "evil.com/", "x" * 100])
async def test_an_answer_without_a_region_leaves_the_configured_one(
    store: S3Store, pauses: Pauses, told: str
) -> None:
    ref = store.put({"config.json": b"{}"})
    with FaultProxy(store.endpoint) as proxy:
        proxy.fail(Fault("HEAD:", status=403, headers={"x-amz-bucket-region": told}))
        provider = S3Provider(
            region="eu-north-1",
            find_keys=lambda: store.keys,
            address=lambda bucket, region: f"{proxy.endpoint}/{bucket}",
            rules=rules(pauses),
        )
        await provider.resolve(ref)
        assert "/eu-north-1/s3/" in proxy.asked("GET:")[0].authorization
        await provider.close()


# refusals


IN_IRELAND = {"x-amz-bucket-region": "eu-west-1"}
MALFORMED = "AuthorizationHeaderMalformed"


def refusal(code: str, extra: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>why</Message>{extra}</Error>".encode()


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "said"),
    [
        (301, refusal("PermanentRedirect"), IN_IRELAND, PreconditionError, "AWS_REGION=eu-west-1"),
        (307, b"", {}, PreconditionError, "AWS_REGION"),
        (400, refusal(MALFORMED, "<Region>x-1</Region>"), {}, PreconditionError, "AWS_REGION=x-1"),
        (400, refusal("ExpiredToken"), {}, UnauthenticatedError, "expired"),
        (400, refusal("InvalidToken"), {}, UnauthenticatedError, "session token"),
        (400, refusal("Whatever"), {}, UnavailableError, "Whatever: why"),
        (400, b"<html>", {}, UnavailableError, "refused with 400"),
        (400, refusal("InvalidBucketName"), {}, InvalidArgumentError, "no name of a bucket"),
        (403, refusal("RequestTimeTooSkewed"), {}, UnauthenticatedError, "clock"),
        (403, refusal("AccessDenied"), {}, PermissionDeniedError, "s3:GetObject"),
        (403, refusal("InvalidObjectState"), {}, PreconditionError, "archived"),
        (403, b"", {}, PermissionDeniedError, "access is denied"),
        (404, refusal("NoSuchBucket"), {}, NotFoundError, "no such bucket"),
        (404, b"", {}, NotFoundError, "s3://"),
        (401, b"", {}, UnauthenticatedError, "AWS_ACCESS_KEY_ID"),
        (405, b"\xff\x00" * 100, {}, UnavailableError, "405"),
        (200, b"", {"Content-Length": "70000000"}, UnavailableError, "broke"),
    ],
)  # fmt: skip
async def test_refusals_are_told_apart(
    store: S3Store,
    provider: S3Provider,
    proxy: FaultProxy,
    status: int,
    body: bytes,
    headers: dict[str, str],
    kind: type[MxError],
    said: str,
) -> None:
    proxy.fail(Fault("GET:", status=status, body=body, headers=headers, times=None, cut_after=len(body)))
    ref = ModelRef(ProviderName.S3, f"s3://{BUCKET}/m")
    with pytest.raises(kind) as caught:
        await provider.resolve(ref)
    assert said in str(caught.value)
    assert ref.name in caught.value.message


@pytest.mark.parametrize("code", ["SlowDown", "RequestTimeout", "InternalError"])
async def test_codes_that_pass_are_asked_for_again(
    store: S3Store, provider: S3Provider, proxy: FaultProxy, pauses: Pauses, code: str
) -> None:
    proxy.fail(Fault("GET:", status=400, body=refusal(code), times=2))
    await provider.resolve(store.put(FILES))
    assert pauses.taken == [1.0, 2.0]


async def test_a_bucket_that_is_not_there(provider: S3Provider) -> None:
    with pytest.raises(NotFoundError, match="no such bucket") as caught:
        await provider.resolve(ModelRef(ProviderName.S3, "s3://no-bucket-of-ours/m"))
    assert "AWS_ENDPOINT_URL" in caught.value.remedy


# listings of rubbish

OBJECT = "<Contents><Key>m/{key}</Key><Size>{size}</Size><ETag>&quot;e&quot;</ETag></Contents>"


def page(*contents: str, more: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    return f"<ListBucketResult>{more}{''.join(contents)}</ListBucketResult>".encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "can't be read"),
        (b"<html>log in", "can't be read"),
        (b"<html/>", "can't be read"),
        (b"{}", "can't be read"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult/>', "document type"),
        (page("<Contents><Key>m/a</Key></Contents>"), "size"),
        (page("<Contents><Size>1</Size></Contents>"), "object"),
        (page(OBJECT.format(key="a", size="-1")), "size"),
        (page(OBJECT.format(key="a", size="9" * 40)), "size"),
        (page(OBJECT.format(key="a", size="1"), OBJECT.format(key="a", size="2")), "twice"),
        (page(OBJECT.format(key="../a", size="1")), "unsafe"),
        (page(OBJECT.format(key="a//b", size="1")), "unsafe"),
        (page(OBJECT.format(key="/a", size="1")), "unsafe"),
        (page(OBJECT.format(key="a\\b", size="1")), "unsafe"),
        (page(OBJECT.format(key="x" * 256, size="1")), "unsafe"),
        (page(OBJECT.format(key="a/", size="1")), "unsafe"),
        (page(OBJECT.format(key="a", size="1")).replace(b"m/a", b"elsewhere/a"), "lies elsewhere"),
        (page("<EncodingType>url</EncodingType>", OBJECT.format(key="%FF", size="1")), "can't be read"),
        (page(more="<IsTruncated>true</IsTruncated>"), "next one"),
        (
            page(more="<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"),
            "in circles",
        ),
    ],
)
async def test_a_listing_of_rubbish_is_refused(
    provider: S3Provider, proxy: FaultProxy, body: bytes, said: str
) -> None:
    proxy.fail(Fault("GET:", body=body, times=None))
    with pytest.raises(IntegrityError, match=said) as caught:
        await provider.list_files(EntryKey(ProviderName.S3, f"s3://{BUCKET}/m", ""))
    assert f"s3://{BUCKET}/m" in caught.value.message


@pytest.mark.parametrize("headers", [{"ETag": ""}, {"ETag": '"e"', "Content-Length": "-5"}])
async def test_a_head_of_rubbish_is_refused(
    store: S3Store, provider: S3Provider, proxy: FaultProxy, headers: dict[str, str]
) -> None:
    ref = store.put({"config.json": b"{}"})
    proxy.fail(Fault("HEAD:", body=b"", headers=headers, times=None))
    with pytest.raises((IntegrityError, UnavailableError), match=r"config\.json"):
        await listing_of(provider, ref)


async def test_keys_are_asked_for_as_they_are(
    store: S3Store, provider: S3Provider, proxy: FaultProxy, tmp_path: Path
) -> None:
    names = ["a b+c&d=e?f#g%2Fh.json", "~tilde!$'()*,;:@.json", "日本語.json", "a+b/c d.json"]
    ref = store.put({name: name.encode() for name in names})
    assert [file.path for file in (await listing_of(provider, ref)).files] == sorted(names)
    for name in names:
        await fetch(provider, ref, name, tmp_path / "part")
        assert (tmp_path / "part").read_bytes() == name.encode()
    assert {
        unquote(one.path).partition("model-")[2].partition("/")[2] for one in proxy.asked("HEAD:")
    } == set(names)
