"""Every error we raise on purpose, with its CNI code and whether trying again can help.

    SpiderpoolError
    ├── BadRequest          the caller sent something malformed
    │   ├── BadEnvironment  CNI_* variables missing or wrong          code 4
    │   ├── Undecodable     not JSON, or JSON of the wrong shape      code 6
    │   ├── BadConfig       a well-formed configuration that is wrong code 7
    │   ├── Unsupported     a CNI version we do not speak             code 1
    │   └── UnknownPlugin   called under a name we do not serve       code 2
    ├── BadNamespace        the pod's network namespace is unusable   code 8
    ├── IOFailure           a file or socket could not be read        code 5
    ├── Refused             no address can be given; says why         code 11
    ├── NotReady            caches are not synced, or we are stopping code 11
    ├── Unavailable         STATUS: an ADD would fail now             code 50
    ├── ApiUnavailable      the API server gave no usable answer      code 11
    ├── Drift               CHECK found something missing or changed  code 100
    ├── KernelFailure       netlink or sysctl said no                 code 101
    ├── PluginFailure       a plugin that was executed has failed     code 102
    ├── AddressInUse        somebody else answers for the address     code 103
    └── GatewaySilent       the gateway does not answer               code 104

Codes below 100 are those of the CNI specification 1.1.0, section "Error"; from 100 on they are ours.
"""

from __future__ import annotations

from collections.abc import Sequence


class SpiderpoolError(Exception):
    """An error with a sentence for the operator.

    ``code`` is the CNI error code, ``details`` is the longer story, ``retriable`` says whether
    the same request may succeed later without anybody changing a manifest.
    """

    code = 999
    retriable = False

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class BadRequest(SpiderpoolError):
    """The caller sent something malformed; the same bytes will fail again."""

    code = 7


class BadEnvironment(BadRequest):
    """A ``CNI_*`` variable is missing or wrong."""

    code = 4


class Undecodable(BadRequest):
    """Input that is not JSON, or JSON of the wrong shape."""

    code = 6


class BadConfig(BadRequest):
    """A network configuration or manifest that decodes but cannot be right."""

    code = 7


class Unsupported(BadRequest):
    """A CNI version that we do not speak."""

    code = 1


class UnknownPlugin(BadRequest):
    """A plugin name or configuration field that this agent does not serve."""

    code = 2


class BadNamespace(SpiderpoolError):
    """The network namespace of the pod is missing or not a namespace."""

    code = 8


class IOFailure(SpiderpoolError):
    """A file or socket could not be read or written."""

    code = 5
    retriable = True


class Refused(SpiderpoolError):
    """No address can be given now; the message names every pool considered and why."""

    code = 11
    retriable = True


class NotReady(SpiderpoolError):
    """We have no complete picture yet (caches not synced) or are shutting down."""

    code = 11
    retriable = True


class Unavailable(SpiderpoolError):
    """The answer to STATUS while an ADD would fail."""

    code = 50
    retriable = True


class ApiUnavailable(SpiderpoolError):
    """The API server did not answer in time, or answered with a server error."""

    code = 11
    retriable = True


class Drift(SpiderpoolError):
    """CHECK found an interface, address, route or record missing or changed."""

    code = 100


class KernelFailure(SpiderpoolError):
    """The kernel refused a netlink request, sysctl or packet-mark rule."""

    code = 101
    retriable = True


class PluginFailure(SpiderpoolError):
    """A CNI plugin that was executed for a pod's network has failed; the message says what it told."""

    code = 102
    retriable = True


class AddressInUse(SpiderpoolError):
    """A machine outside the cluster's knowledge answers for an address that was to become a pod's."""

    code = 103
    retriable = True


class GatewaySilent(SpiderpoolError):
    """The gateway of an address does not answer on the NIC's network."""

    code = 104
    retriable = True


def raise_all(failures: Sequence[SpiderpoolError]) -> None:
    """Raise the first failure with the messages of all others in its details; nothing if there is none.

    For work that goes on after a failure: the CNI answer holds one error, and none may be lost.
    """
    if failures:
        first, *others = failures
        first.details = "; ".join(filter(None, (first.details, *(other.message for other in others))))
        raise first
