"""Objects in a bucket of an object store, through obstore, with every request repeated while that may help."""

import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from extract.errors import MachineError, UsageError
from extract.store.objects._failure import ERRORS, Cause, cause_of, text_of
from extract.store.objects._interface import Listed
from extract.urls import without_secrets

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

PATIENCE_S = 120.0  # so long a request is repeated
_TIMEOUT_S = 60.0  # of one request with its data
_PAUSES_S = (0.1, 5.0)  # before the first repetition; the longest
_DELETED_AT_ONCE = 1000

_URL = re.compile(r"(s3|gs|az)://([^/]+)(?:/(.*))?|(memory)://(.+)", re.DOTALL)
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if temporary, AWS_SESSION_TOKEN",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, the path of a key file",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_NO_RETRIES: "RetryConfig" = {"max_retries": 0}

_Answer = TypeVar("_Answer")
_in_memory: dict[str, MemoryStore] = {}


class Bucket:
    """Objects below a prefix, or, by ``memory://NAME``, in this process alone.

    Requests that fail in a way that may pass are repeated for ``PATIENCE_S``; then, and where it will not pass,
    they raise MachineError.
    """

    def __init__(self, url: str) -> None:
        self._url = _checked(url)
        self._store = self.connect(_NO_RETRIES)
        self._has_worked = False

    @property
    def url(self) -> str:
        """The URL, without a slash at its end."""
        return self._url

    def connect(self, retries: "RetryConfig | None" = None) -> "ObjectStore":
        """A client of obstore; asks nothing of the server yet."""
        try:
            return _connect(self._url, retries)
        except OSError as error:
            raise MachineError(f"{self._url}: cannot read AWS_CA_BUNDLE: {error}. Correct it, or unset it") from None
        except ERRORS as error:
            raise self._failed("open", error) from None

    def get(self, key: str) -> bytes | None:
        """The whole object, or None where there is none."""
        return self._if_there(f"read {key}", lambda: obstore.get(self._store, key).bytes().to_bytes())

    def get_range(self, key: str, start: int, length: int) -> bytearray:
        """``length`` bytes from byte ``start``; fewer where the object ends, none where it is missing."""
        if not length:
            return bytearray()
        data = self._if_there(f"read {key}", lambda: obstore.get_range(self._store, key, start=start, length=length))
        return bytearray(data or b"")

    def size(self, key: str) -> int | None:
        """Length in bytes, or None where there is no object."""
        return self._if_there(f"read {key}", lambda: obstore.head(self._store, key)["size"])

    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object."""
        self._tried(f"write {key}", lambda: obstore.put(self._store, key, data, use_multipart=False))

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; of several writers exactly one gets True.

        A repetition may meet what an earlier try wrote, whose answer was lost: that is known by its bytes.
        """
        unclear = False

        def request() -> bool:
            nonlocal unclear
            try:
                obstore.put(self._store, key, data, mode="create")
            except AlreadyExistsError:
                there = self.get(key)
                if there is None:  # the other writer failed, too
                    raise
                return unclear and there == data
            except ERRORS:
                unclear = True
                raise
            return True

        return self._tried(f"write {key}", request)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are missing are no error."""
        rest = iter(keys)
        while some := list(islice(rest, _DELETED_AT_ONCE)):
            self._tried(f"delete {some[0]}", partial(self._delete, some))

    def listed(self, prefix: str) -> Iterator[Listed]:
        """All objects below ``prefix``, in the order of their keys."""
        pages: Iterator[Sequence[ObjectMeta]] | None = None
        last: str | None = None

        def request() -> Sequence["ObjectMeta"]:
            nonlocal pages
            pages = pages or iter(obstore.list(self._store, prefix.rstrip("/") or None, offset=last))
            try:
                return next(pages, ())
            except ERRORS:
                pages = None
                raise

        while page := self._tried(f"list {prefix or 'objects'}", request):
            now = datetime.now(UTC)
            for item in page:
                yield Listed(item["path"], item["size"], (now - item["last_modified"]).total_seconds())
            last = page[-1]["path"]

    def _delete(self, keys: list[str]) -> None:
        try:
            obstore.delete(self._store, keys)
        except FileNotFoundError as error:  # some storages stop at the first missing one
            if cause_of(error) is not Cause.MISSING:
                raise
            for key in keys:
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, key)

    def _if_there(self, doing: str, request: Callable[[], _Answer]) -> _Answer | None:
        """The answer to ``request``, or None where there is no such object, or no such part of it."""

        def answer() -> _Answer | None:
            try:
                return request()
            except ERRORS as error:
                if cause_of(error) in (Cause.MISSING, Cause.PAST_END):
                    return None
                raise

        return self._tried(doing, answer)

    def _tried(self, doing: str, request: Callable[[], _Answer]) -> _Answer:
        """The answer to ``request``, which is repeated while that may help."""
        started_s, pause_s = time.monotonic(), _PAUSES_S[0]
        while True:
            try:
                answer = request()
            except ERRORS as error:
                if not self._may_pass(cause_of(error)):
                    raise self._failed(doing, error) from None
                if time.monotonic() - started_s + pause_s > PATIENCE_S:
                    raise self._gave_up(doing, error) from None
            else:
                self._has_worked = True
                return answer
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _PAUSES_S[1])

    def _may_pass(self, cause: Cause) -> bool:
        return cause is Cause.BUSY or (cause in (Cause.UNKNOWN, Cause.NO_CREDENTIALS) and self._has_worked)

    def _gave_up(self, doing: str, error: Exception) -> MachineError:
        return MachineError(
            f"{self._url}: cannot {doing}: the storage has been failing for {PATIENCE_S:g} s, last with: "
            f"{text_of(error)}. Everything committed is safe: run the same command again when the storage "
            "can be reached"
        )

    def _failed(self, doing: str, error: Exception) -> MachineError:
        scheme, _, rest = self._url.partition("://")
        variables = _CREDENTIALS.get(scheme, "no variables")
        remedies = {
            Cause.DENIED: f"Check that the credentials in the environment ({variables}) are right and may do this. "
            "To be told that an object is missing, they must be allowed to list the bucket",
            Cause.NO_CREDENTIALS: f"There are no credentials: set {variables}",
            Cause.NO_BUCKET: f"There is no bucket {rest.partition('/')[0]!r}: create it, or check the URL",
            Cause.MISSING: f"There is no bucket {rest.partition('/')[0]!r}: create it, or check the URL",
            Cause.UNCONDITIONAL: "The log needs conditional writes (`If-None-Match: *`): use a storage that has them",
        }
        remedy = remedies.get(
            cause_of(error), f"Check the URL, the settings of the storage in the environment, and {variables}"
        )
        return MachineError(f"{self._url}: cannot {doing}: {text_of(error)}. {remedy}")


def _checked(url: str) -> str:
    """``url`` without a slash at its end."""
    if without_secrets(url) != url:
        raise UsageError(
            f"{without_secrets(url)} has credentials or a query in the URL, which is shown and stored; "
            "expected them in the environment"
        )
    match = _URL.fullmatch(url.rstrip("/"))
    if not match:
        raise UsageError(
            f"{url} cannot hold a store; expected a folder, file:///path, s3://bucket/prefix, gs://bucket/prefix, "
            "az://container/prefix or memory://name"
        )
    return match[0]


def _connect(url: str, retries: "RetryConfig | None") -> "ObjectStore":
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    options: ClientConfig = {"timeout": timedelta(seconds=_TIMEOUT_S)}
    if scheme == "memory":
        return _in_memory.setdefault(rest, MemoryStore())
    if scheme == "gs":
        return GCSStore(bucket, prefix=prefix or None, client_options=options, retry_config=retries)
    if scheme == "az":
        return AzureStore(bucket, prefix=prefix or None, client_options=options, retry_config=retries)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options["allow_http"] = endpoint.startswith("http://")
    if os.environ.get("AWS_CA_BUNDLE"):
        options["root_certificate"] = Path(os.environ["AWS_CA_BUNDLE"]).read_bytes()
    return S3Store(bucket, prefix=prefix or None, client_options=options, retry_config=retries)
