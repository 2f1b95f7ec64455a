import os
import pickle
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
import zarr
from object_server import Faulty, faulty, new_bucket, s3_server, use_s3

from extract.errors import MachineError, StoreError, UsageError
from extract.store.objects import LocalObjects, Objects, check_conditional_writes, objects_at
from extract.store.objects import _bucket as bucket_module
from extract.store.objects import _lease as lease_module
from extract.store.objects import _remote as remote_module
from extract.store.objects._lease import Lease
from extract.store.objects._remote import RemoteObjects


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    kind = request.param
    if kind == "local":
        monkeypatch.setattr(os, "fsync", lambda _: None)
        return str(tmp_path / "store")
    if kind == "memory":
        return f"memory://{uuid4().hex}"
    endpoint = request.getfixturevalue("server")
    use_s3(monkeypatch, endpoint)
    return f"s3://{new_bucket(endpoint)}/some/store"


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "POLL_S", 0.01)
    monkeypatch.setattr(bucket_module, "_PAUSES_S", (0.002, 0.02))


everywhere = pytest.mark.parametrize("url", ["local", "memory", "s3"], indirect=True)
leased = pytest.mark.parametrize("url", ["memory", "s3"], indirect=True)


def at_once(*calls: Callable[[], object]) -> list[object]:
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def wait_for(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.005)


# The contract


@everywhere
def test_objects_come_back_as_they_were_written(url: str) -> None:
    objects = objects_at(url)
    assert objects.url == url
    contents = {f"a/{'b/' * (i % 3)}{i}": os.urandom(7 * i) for i in range(40)}
    objects.put_all(contents.items())
    for each in (objects, objects_at(url), pickle.loads(pickle.dumps(objects))):
        assert {key: each.get(key) for key in contents} == contents
        assert {key: each.size(key) for key in contents} == {key: len(data) for key, data in contents.items()}
    objects.put_all([("a/9", b"new")])
    assert (objects.get("a/9"), objects.size("a/9")) == (b"new", 3)


@everywhere
def test_what_is_missing_is_none(url: str) -> None:
    objects = objects_at(url)
    for _ in range(2):
        assert objects.get("a") is None
        assert objects.size("a/b") is None
        assert objects.get_range("a/b", 0, 10) == b""
        assert list(objects.listed("a/")) == []
        objects.delete(["a", "c/d"])
        objects.put_all([("a-", b"x")])


@everywhere
def test_ranges_end_where_the_object_ends(url: str) -> None:
    objects = objects_at(url)
    data = bytes(range(100))
    objects.put_all([("a", data), ("empty", b"")])
    for start, length in ((0, 100), (10, 20), (90, 10), (90, 11), (99, 1000), (100, 1), (101, 5), (5, 0)):
        assert objects.get_range("a", start, length) == data[start : start + length]
    assert objects.get_range("empty", 0, 5) == b""
    changeable = objects.get_range("a", 0, 3)
    changeable[0] = 7
    assert objects.get_range("a", 0, 1) == b"\0"


@everywhere
def test_a_taken_key_is_refused(url: str) -> None:
    objects = objects_at(url)
    assert objects.put_if_absent("log/0", b"first")
    assert not objects.put_if_absent("log/0", b"second")
    assert not objects.put_if_absent("log/0", b"first")
    assert objects.get("log/0") == b"first"


@everywhere
def test_of_racing_creators_one_wins(url: str) -> None:
    objects = [objects_at(url) for _ in range(6)]
    for key in map(str, range(8)):
        won = at_once(*(lambda key=key, i=i: objects[i].put_if_absent(key, b"%d" % i) for i in range(6)))
        assert sorted(map(bool, won)) == [False] * 5 + [True]
        assert objects[0].get(key) == b"%d" % won.index(True)


@everywhere
def test_listings_show_all_below_a_prefix(url: str) -> None:
    objects = objects_at(url)
    objects.put_all([("a/b/c/d", b"123"), ("a/e", b""), ("ab", b"1"), ("x/a/e", b"1")])
    listed = {item.key: item for item in objects.listed("a/")}
    assert {key: item.size_bytes for key, item in listed.items()} == {"a/b/c/d": 3, "a/e": 0}
    assert all(-5 < item.age_s < 60 for item in listed.values())
    assert {item.key for item in objects.listed("")} == {"a/b/c/d", "a/e", "ab", "x/a/e"}
    objects.delete(["a/b/c/d", "a/missing", "missing", "ab"])
    assert {item.key for item in objects.listed("")} == {"a/e", "x/a/e"}
    assert objects.get("a/b/c/d") is None


def test_long_listings_and_deletions_are_whole() -> None:
    objects = objects_at(f"memory://{uuid4().hex}")
    keys = [f"a/{i:05d}" for i in range(2345)]
    objects.put_all((key, b"") for key in keys)
    assert [item.key for item in objects.listed("a/")] == keys
    objects.delete(keys[:-1])
    assert [item.key for item in objects.listed("")] == keys[-1:]


@everywhere
def test_a_place_is_unused_until_something_is_there(url: str) -> None:
    objects = objects_at(url)
    assert objects.is_unused()
    assert "there is no" in objects.found()
    check_conditional_writes(objects)
    assert objects.is_unused()
    objects.put_all([(f"{name}/photo.jpg", b"x") for name in "gfedcba"])
    assert not objects.is_unused()
    assert re.match(r"it holds (_tmp, )?a, b, c, d, (e, )?…, no _log", objects.found())


@leased
def test_a_creation_cut_short_leaves_a_place_unused(url: str) -> None:
    objects = objects_at(url)
    objects.put_all([("_probe/1", b"")])
    assert objects.is_unused()


@everywhere
def test_one_at_a_time_holds_a_lock(url: str) -> None:
    inside: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            with objects_at(url).exclusive("publish"):
                inside.append(number)
                time.sleep(0.002)
                assert inside == [number]
                inside.clear()

    at_once(*(lambda i=i: work(i) for i in range(4)))
    objects = objects_at(url)
    with objects.exclusive("one"), objects.exclusive("two"):
        objects.put_all([("a", b"x")])
    assert objects.get("a") == b"x"


@everywhere
def test_zarr_reads_what_is_there(url: str) -> None:
    objects = objects_at(url)
    objects.put_all([("zarr.json", b'{"zarr_format": 3, "node_type": "group", "attributes": {"a": 5}}')])
    assert zarr.open_group(objects.for_zarr(), mode="r").attrs["a"] == 5


# Places


def test_paths_and_file_urls_are_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for location in ("a b%20c", Path("a b%20c"), tmp_path / "a b%20c", f"file://{tmp_path}/a%20b%2520c"):
        objects = objects_at(location)
        assert isinstance(objects, LocalObjects)
        assert objects.url == str(tmp_path / "a b%20c")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://host/store", "cannot hold a store"),
        ("s3://", "cannot hold a store"),
        ("s3:///store", "cannot hold a store"),
        ("memory://", "cannot hold a store"),
        ("file://host/store", "another machine"),
        ("s3://key:hidden@bucket/store", r"^s3://bucket/store has credentials"),
        ("az://container/store?sig=hidden", r"^az://container/store has credentials or a query"),
    ],
)
def test_urls_that_cannot_hold_a_store_are_refused(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        objects_at(url)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_unusual_prefixes_stay_as_they_are(url: str) -> None:
    bucket = url.split("/")[2]
    for prefix in ("", "/", "/a b/ü%20+", "/trailing/"):
        objects = objects_at(f"s3://{bucket}{prefix}")
        assert objects.url == f"s3://{bucket}{prefix.rstrip('/')}"
        assert objects.put_if_absent("x/k", prefix.encode())
        assert pickle.loads(pickle.dumps(objects)).get("x/k") == prefix.encode()
        objects.delete(["x/k"])


def test_a_folder_of_others_is_not_removed_with_the_last_object(tmp_path: Path) -> None:
    objects = objects_at(tmp_path)
    objects.put_all([("_segments/ab/one/features/c.0", b"x"), ("_segments/ab/one/zarr.json", b"x"), ("other/a/b", b"")])
    objects.delete(["_segments/ab/one/features/c.0"])
    assert sorted(path.name for path in (tmp_path / "_segments/ab").rglob("*")) == ["one", "zarr.json"]
    objects.delete(["_segments/ab/one/zarr.json"])
    assert list((tmp_path / "_segments").rglob("*")) == [tmp_path / "_segments/ab"]


def test_a_permission_that_is_missing_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    objects = objects_at(tmp_path)
    objects.put_all([("a", b"x")])
    for name in ("stat", "unlink", "iterdir"):
        monkeypatch.setattr(Path, name, refuse)
    for call in (lambda: objects.size("a"), lambda: objects.delete(["a"]), lambda: list(objects.listed(""))):
        with pytest.raises(MachineError, match=r"Permission denied\. Make the folder accessible"):
            call()


# Conditional writes


class Liar(RemoteObjects):
    """A storage that ignores the condition."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True


def test_a_storage_that_ignores_conditions_is_refused() -> None:
    liar = Liar(f"memory://{uuid4().hex}")
    with pytest.raises(StoreError, match="ignores conditional writes: it created one object twice"):
        check_conditional_writes(liar)
    assert list(liar.listed("")) == []


# Leases and parallel writes


def test_writes_run_in_parallel_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "_IN_FLIGHT_BYTES", 100)
    running_bytes: list[int] = []
    peaks: dict[str, list[int]] = {"count": [], "bytes": []}
    put = RemoteObjects.put

    def watched(objects: RemoteObjects, key: str, data: bytes) -> None:
        running_bytes.append(len(data))
        peaks["count"].append(len(running_bytes))
        peaks["bytes"].append(sum(running_bytes))
        time.sleep(0.005)
        put(objects, key, data)
        running_bytes.remove(len(data))

    monkeypatch.setattr(RemoteObjects, "put", watched)
    objects = objects_at(f"memory://{uuid4().hex}")
    objects.put_all((f"small/{i}", b"") for i in range(40))
    assert 4 < max(peaks["count"]) <= 16
    objects.put_all((f"large/{i}", bytes(30)) for i in range(10))
    objects.put_all([("huge", bytes(500))])
    assert 60 <= max(peaks["bytes"][:-1]) <= 100
    assert len(list(objects.listed(""))) == 51


@leased
def test_leases_leave_one_object_behind(url: str) -> None:
    objects = objects_at(url)
    for _ in range(4):
        with objects.exclusive("publish"):
            pass
    assert [item.key for item in objects.listed("")] == ["_leases/publish/000000000007"]


@leased
def test_a_waiter_takes_over_from_a_holder_that_died(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_S", 0.3)
    Lease(RemoteObjects(url), "publish").take()
    began_s = time.monotonic()
    with objects_at(url).exclusive("publish"):
        assert 0.3 <= time.monotonic() - began_s < 5


@leased
def test_a_live_holder_keeps_its_lease(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_S", 0.6)
    monkeypatch.setattr(lease_module, "RENEWAL_S", 0.05)
    taken = threading.Event()
    holder = objects_at(url)

    def wait_and_take() -> None:
        with objects_at(url).exclusive("publish"):
            taken.set()

    waiter = threading.Thread(target=wait_and_take)
    with holder.exclusive("publish"):
        waiter.start()
        assert not taken.wait(1.2)
        holder.put_all([("a", b"x")])
    assert taken.wait(0.5)
    waiter.join()


@leased
@pytest.mark.parametrize("renewals", [0, 3])
def test_a_holder_that_lost_its_lease_cannot_write(url: str, renewals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_S", 0.1)
    objects, other = objects_at(url), Lease(RemoteObjects(url), "publish")
    with objects.exclusive("publish"):
        other.take()
        for _ in range(renewals):  # the numbers that the first holder would write are free again
            other.renew()
        with pytest.raises(MachineError, match=r"did not renew its lock 'publish' for more than 0\.1 s"):
            objects.put_all([("a", b"x")])
        with pytest.raises(MachineError, match="run the same command again"):
            objects.put_if_absent("b", b"x")
        at_once(lambda: objects.put_all([("c", b"x")]))
    assert (objects.get("a"), objects.get("b"), objects.get("c")) == (None, None, b"x")
    other.check()
    other.release()
    objects.put_all([("a", b"x")])


def test_a_holder_is_stopped_between_two_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_S", 0.1)
    objects = objects_at(f"memory://{uuid4().hex}")
    other = Lease(RemoteObjects(objects.url), "publish")

    def contents() -> Iterator[tuple[str, bytes]]:
        yield "a", b"x"
        other.take()
        yield "b", b"x"

    with objects.exclusive("publish"), pytest.raises(MachineError, match="took it over"):
        objects.put_all(contents())
    assert (objects.get("a"), objects.get("b")) == (b"x", None)


# A storage that fails


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")  # so that listings take several requests
    with faulty(server) as proxy:
        use_s3(monkeypatch, proxy.endpoint)
        yield proxy


def behind(proxy: Faulty) -> Objects:
    objects = objects_at(f"s3://{new_bucket(proxy.endpoint)}/store")
    proxy.requests.clear()
    return objects


@pytest.mark.parametrize("fault", ["500", "503", "429", "reset", "lost", "lost 500", "cut", "slow"])
def test_a_failure_that_passes_changes_nothing(proxy: Faulty, fault: str) -> None:
    objects = behind(proxy)

    def failing(call: Callable[[], object]) -> object:
        proxy.next.append(fault)
        answer = call()
        assert not proxy.next
        return answer

    failing(lambda: objects.put_all([("a/b", b"12345")]))
    assert failing(lambda: objects.put_if_absent("c", b"mine")) is True
    assert failing(lambda: objects.put_if_absent("a/b", b"mine")) is False
    assert failing(lambda: objects.get("c")) == b"mine"
    assert failing(lambda: objects.get("d")) is None
    assert failing(lambda: objects.get_range("a/b", 3, 9)) == b"45"
    assert failing(lambda: objects.size("a/b")) == 5
    assert failing(lambda: [item.key for item in objects.listed("")]) == ["a/b", "c"]
    failing(lambda: objects.delete(["a/b", "nothing"]))
    assert [item.key for item in objects.listed("")] == ["c"]
    assert proxy.faults == {fault: 9}


def test_a_conflict_without_a_winner_is_tried_again(proxy: Faulty) -> None:
    objects = behind(proxy)
    proxy.next.append("409")
    assert objects.put_if_absent("a", b"x")
    assert objects.get("a") == b"x"
    proxy.next.append("409")
    assert not objects.put_if_absent("a", b"y")
    assert objects.get("a") == b"x"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("403", r"403 \S+ \(AccessDenied: on purpose\). Check that the credentials .*AWS_SECRET_ACCESS_KEY"),
        ("404", "There is no bucket 'bucket-"),
        ("400", "400 .*Check the URL"),
    ],
)
def test_a_failure_that_stays_is_told_at_once(proxy: Faulty, fault: str, message: str) -> None:
    objects = behind(proxy)
    calls: list[Callable[[], object]] = [
        lambda: objects.get("a"),
        lambda: objects.put_all([("a", b"x")]),
        lambda: objects.put_if_absent("a", b"x"),
        lambda: objects.delete(["a"]),
        objects.is_unused,
    ]
    for count, call in enumerate(calls, start=1):
        proxy.next.append(fault)
        with pytest.raises(MachineError, match=message) as caught:
            call()
        assert str(caught.value).startswith(f"{objects.url}: cannot ")
        assert "test-" not in str(caught.value)
        assert len(proxy.requests) == count


def test_a_bucket_that_is_missing_is_named(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_s3(monkeypatch, server)
    objects = objects_at("s3://no-such-bucket/store")
    for call in (lambda: objects.get("a"), lambda: objects.put_all([("a", b"x")]), objects.is_unused):
        with pytest.raises(MachineError, match="There is no bucket 'no-such-bucket': create it, or check the URL"):
            call()


def test_missing_credentials_are_named(proxy: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", proxy.endpoint)
    proxy.next.append("403")
    with pytest.raises(MachineError, match="There are no credentials: set AWS_ACCESS_KEY_ID"):
        objects_at("s3://bucket/store").get("a")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half")
    with pytest.raises(MachineError, match=r"SecretAccessKey.*AWS_SECRET_ACCESS_KEY"):
        objects_at("s3://bucket/store").get("a")


def test_a_server_with_a_certificate_of_its_own(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("makes a certificate with the command openssl, which is not here")
    identity = tmp_path / "identity.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=storage"
    request += " -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    files = ["-keyout", str(identity), "-out", str(tmp_path / "public.pem")]
    subprocess.run(["openssl", *request.split(), *files], check=True, capture_output=True)
    with identity.open("a") as file:
        file.write((tmp_path / "public.pem").read_text())
    with faulty(server, identity=identity) as proxy:
        use_s3(monkeypatch, proxy.endpoint)
        url = f"s3://{new_bucket(server)}/store"
        with pytest.raises(MachineError, match=r"cannot read a: .*certificate"):
            objects_at(url).get("a")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "public.pem"))
        assert objects_at(url).put_if_absent("a", b"x")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
        with pytest.raises(MachineError, match=r"cannot read AWS_CA_BUNDLE: .*missing\.pem"):
            objects_at(url)


@pytest.mark.parametrize("fault", ["500", "reset", "hang", "gone"])
def test_a_storage_that_stays_down_is_given_up(proxy: Faulty, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "PATIENCE_S", 0.3)
    monkeypatch.setattr(bucket_module, "_TIMEOUT_S", 0.2)
    objects = behind(proxy)
    objects.put_all([("a", b"x")])
    if fault == "gone":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        objects = objects_at(objects.url)
    proxy.next.extend([fault] * 1000)
    calls = (lambda: objects.put_all([("b", b"x")] * 20), lambda: objects.put_if_absent("b", b"x"))
    for call in calls:
        began_s = time.monotonic()
        with pytest.raises(MachineError, match=r"failing for 0\.3 s, last with: .*Everything committed is safe: run"):
            call()
        assert time.monotonic() - began_s < 3
    proxy.next.clear()
    use_s3(monkeypatch, proxy.endpoint)
    assert [item.key for item in objects_at(objects.url).listed("")] == ["a"]


def test_a_lock_is_held_through_failures(proxy: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEWAL_S", 0.02)
    objects = behind(proxy)
    proxy.rate = 0.3
    for number in range(3):
        with objects.exclusive("publish"):
            objects.put_all([(f"{number}/{i}", b"x") for i in range(10)])
    proxy.rate = 0.0
    assert len(list(objects.listed(""))) == 31
    assert proxy.faults.total() > 10


class Model(dict[str, bytes]):
    """What a storage must do."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.setdefault(key, data) is data

    def delete(self, keys: list[str]) -> None:
        for key in keys:
            self.pop(key, None)


@pytest.mark.parametrize("seed", range(3))
def test_random_work_through_failures_ends_as_without(proxy: Faulty, seed: int) -> None:
    chance = random.Random(seed)
    objects, model = behind(proxy), Model()
    proxy.rate = 0.3
    for number in range(60):
        keys = [f"{chance.choice('ab')}/{chance.randrange(6)}" for _ in range(chance.randint(1, 5))]
        data = b"%d" % number * chance.randint(1, 50)
        match chance.choice(("put", "create", "create", "delete", "list", "read")):
            case "put":
                objects.put_all((key, data) for key in dict.fromkeys(keys))
                model.update(dict.fromkeys(keys, data))
            case "create":
                assert objects.put_if_absent(keys[0], data) == model.put_if_absent(keys[0], data)
            case "delete":
                objects.delete(keys)
                model.delete(keys)
            case "list":
                listed = [item.key for item in objects.listed("a/")]
                assert listed == sorted(key for key in model if key.startswith("a/"))
            case _:
                there = model.get(keys[0])
                assert objects.get(keys[0]) == there
                assert objects.size(keys[0]) == (None if there is None else len(there))
                assert objects.get_range(keys[0], 3, 40) == (there or b"")[3:43]
    proxy.rate = 0.0
    assert {item.key: objects.get(item.key) for item in objects.listed("")} == model
    assert proxy.faults.total() > 20
