"""Why a request to an object store failed, told from what obstore says."""

import re
from enum import Enum, auto

from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError

from extract.urls import without_secrets

ERRORS = (BaseError, FileNotFoundError, NotImplementedError)

_STATUS = re.compile(r"status code: (\d{3})([^:]*): ?(.*)", re.DOTALL)
_CODE = re.compile(r'<Code>(.*?)</Code>|"code": ?"(.*?)"')
_MESSAGE = re.compile(r'<Message>(.*?)</Message>|"message": ?"(.*?)"', re.DOTALL)
_REASON = re.compile(r'(?:message|error): "(.*?)"')
_DETAILS = "\n\nDebug source:"
_BAD_CERTIFICATE = "InvalidCertificate"
_SHOWN = 300

_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")
_METADATA_SERVICES = (  # of a cloud's machines, which are asked for credentials where the environment has none
    "/latest/api/token",
    "/latest/meta-data",
    "169.254.170.2/",
    "/computeMetadata/",
    "/metadata/identity",
)
_PASSING = {408, 409, 429}
_PASSING_CODES = {"RequestTimeout", "SlowDown", "OperationAborted"}
_LASTING = {501, 505}


class Cause(Enum):
    """What a failure comes from, as far as it matters for what to do."""

    MISSING = auto()  # the object is not there
    BUSY = auto()  # passes: the server is overloaded, or the network fails
    DENIED = auto()
    NO_BUCKET = auto()
    NO_CREDENTIALS = auto()
    PAST_END = auto()  # a range that begins where the object has ended
    UNCONDITIONAL = auto()  # the storage has no conditional writes
    REFUSED = auto()  # any other answer that stays the same
    UNKNOWN = auto()


def cause_of(error: Exception) -> Cause:
    """The cause of one of ``ERRORS``."""
    text = str(error)
    if isinstance(error, AlreadyExistsError):
        return Cause.BUSY
    if any(part in text for part in _METADATA_SERVICES):
        return Cause.NO_CREDENTIALS
    if any(words in text for words in _NO_BUCKET):
        return Cause.NO_BUCKET
    if isinstance(error, FileNotFoundError):
        return Cause.MISSING
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return Cause.DENIED
    if isinstance(error, NotImplementedError):
        return Cause.UNCONDITIONAL
    status = _STATUS.search(text)
    if status:
        return _cause_of_status(int(status[1]), _found(_CODE, status[3]))
    return _cause_without_answer(text)


def text_of(error: Exception) -> str:
    """What obstore says of the failure, short and without secrets."""
    text, _, details = str(error).partition(_DETAILS)
    status = _STATUS.search(text)
    if status:
        code, message = _found(_CODE, status[3]), _found(_MESSAGE, status[3])
        said = ": ".join(part for part in (code, message) if part) or status[3][:_SHOWN].strip()
        return f"the server answered {status[1]}{status[2]}" + (f" ({said})" if said else "")
    if _BAD_CERTIFICATE in details:
        return "the server's certificate is not one that this machine trusts (AWS_CA_BUNDLE may name others)"
    reason = _REASON.search(details)
    first = text.rpartition(" - ")[2].partition("\n")[0]
    return f"{without_secrets(first)[:_SHOWN]}" + (f" ({reason[1]})" if reason else "")


def _cause_of_status(status: int, code: str) -> Cause:
    if status in _PASSING or code in _PASSING_CODES or (status >= 500 and status not in _LASTING):
        return Cause.BUSY
    if status in (401, 403):
        return Cause.DENIED
    if status == 404:
        return Cause.NO_BUCKET
    return Cause.PAST_END if status == 416 else Cause.REFUSED


def _cause_without_answer(text: str) -> Cause:
    if "Invalid range" in text:
        return Cause.PAST_END
    if "redirect" in text or "BadScheme" in text or _BAD_CERTIFICATE in text:
        return Cause.REFUSED
    return Cause.BUSY if "HttpError" in text else Cause.UNKNOWN


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return next(filter(None, match.groups()), "") if match else ""
