"""What the author of a Pod may ask for: nothing that reads, writes or shows what belongs to the node."""

from __future__ import annotations

from pathlib import Path

import pytest

from ossmount.config import ALL_OPTIONS
from ossmount.k8s.attributes import REFUSED, REFUSED_TO_SIDECARS, Policy, Serve, wanted
from ossmount.k8s.refusal import Code, Refusal

BUCKET = {"source": "s3://mine/train/"}
SHARED = {"source": "s3://mine/train/", "index": "shared.ossidx"}


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    """Of an operator who shares one index and no other file."""
    (tmp_path / "shared.ossidx").touch()
    return Policy(index_dir=tmp_path)


def refusal(context: dict[str, str], policy: Policy) -> str:
    with pytest.raises(Refusal) as refused:
        wanted(context, (), policy)
    assert refused.value.code is Code.INVALID_ARGUMENT
    return refused.value.message


OF_THE_NODE = [
    {"source": "/etc/"},
    {"source": "a=file:///etc/"},
    {"manifest": "FILE:///etc/passwd"},
    {**BUCKET, "label-from": "table:/etc/passwd"},
    {**BUCKET, "label-from": "table:/etc/passwd#key=a,label=b"},
    {**BUCKET, "label-from": "table:file:///etc/passwd"},
    {**BUCKET, "label-from": "table:passwd#key=a"},
    {**BUCKET, "view": "/dev/zero"},
    {**BUCKET, "view": "../passwd"},
    {**BUCKET, "view": "passwd.json"},
    {**BUCKET, "view": "s3://mine/view.json"},
]


@pytest.mark.parametrize("context", OF_THE_NODE, ids=str)
def test_files_of_the_node_are_not_read(context: dict[str, str], policy: Policy) -> None:
    assert "is a file of the node" in refusal(context, policy)
    assert wanted(context, (), Policy(local_files=True)).options.keys() <= {"manifest", "label_from", "view"}
    wanted({**context, "serve": "sidecar"}, (), policy)


@pytest.mark.parametrize(
    "asked", [{"rebuild": "true"}, {"rebuild": ""}, {"refresh": "10m"}, {"refresh": "1s", "rebuild": "no"}]
)
def test_an_index_of_the_node_is_only_read(asked: dict[str, str], policy: Policy) -> None:
    assert "is only read" in refusal(SHARED | asked, policy)
    assert wanted(BUCKET | asked, (), policy).sources == ("s3://mine/train/",)


@pytest.mark.parametrize("name", sorted((REFUSED.keys() & ALL_OPTIONS.keys()) - REFUSED_TO_SIDECARS))
def test_what_a_sidecar_names_is_the_pods_own(name: str, policy: Policy) -> None:
    key, text = name.replace("_", "-"), "true" if name == "local_files" else "/big"
    assert "may not be set" in refusal({**BUCKET, key: text}, policy)
    assert wanted({**BUCKET, key: text, "serve": "sidecar"}, (), policy).options == {name: text}


def test_what_nobody_may_set(policy: Policy) -> None:
    for serve in ("node", "sidecar"):
        assert "may not be set" in refusal({**BUCKET, "clean": "true", "serve": serve}, policy)


def test_standard_input_is_nobodys(policy: Policy) -> None:
    for serve in ("node", "sidecar"):
        assert "standard input" in refusal({**BUCKET, "label-from": "table:-", "serve": serve}, policy)


@pytest.mark.parametrize(
    "options",
    [
        {"label-from": "parent"},
        {"label-from": "sidecar:labels/{stem}.json:category"},
        {"label-from": "table:s3://mine/labels.tsv#key=file,label=kind"},
        {"view": "ninety"},
        {"rebuild": "true"},
    ],
)
def test_what_leads_to_no_file_of_the_node(options: dict[str, str], policy: Policy) -> None:
    assert list(wanted(BUCKET | options, (), policy).options.values()) == list(options.values())


def test_an_index_of_the_operator(policy: Policy, tmp_path: Path) -> None:
    found = wanted({**SHARED, "rebuild": "false", "layout": "labels"}, (), policy)
    assert found.options["index"] == str(tmp_path / "shared.ossidx")


def test_what_is_no_option_may_stand_among_the_mount_options_too(policy: Policy) -> None:
    """A StorageClass or PersistentVolume has both lists; docs/kubernetes.md allows either."""
    flags = ("ro", "source=s3://mine/train/,serve=sidecar", "role-arn=arn:aws:iam::1:role/train", "workers=3")
    found = wanted({}, flags, policy)
    assert (found.sources, found.serve) == (("s3://mine/train/",), Serve.SIDECAR)
    assert (found.role_arn, found.options) == ("arn:aws:iam::1:role/train", {"workers": "3"})


@pytest.mark.parametrize("key", ["source", "role-arn", "endpoint-url", "index", "view"])
def test_a_nul_is_no_part_of_any_attribute(key: str, policy: Policy) -> None:
    assert "holds a NUL byte" in refusal(BUCKET | {key: "s3://mine/\0"}, policy)


def test_an_index_that_no_file_can_be(policy: Policy) -> None:
    assert "File name too long" in refusal({"index": "n" * 300}, policy)
