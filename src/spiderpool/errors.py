"""Every error that we raise on purpose: its CNI code, whether trying again can help, and who acts on it.

    error                     code  again  who acts, and on what
    SpiderpoolError           999          base class, never raised itself
    ├── BadRequest              7   no     the caller: its input is malformed
    │   ├── BadEnvironment      4   no     the container runtime: a CNI_* variable is missing or wrong
    │   ├── Undecodable         6   no     the caller: its input is not JSON, or JSON of the wrong shape
    │   ├── BadConfig           7   no     the user: a manifest, annotation or setting is wrong
    │   ├── Unsupported         1   no     the user: the network needs another cniVersion
    │   └── UnknownPlugin       2   no     the user: the network names a plugin or field that we do not serve
    ├── BadNamespace            8   no     the container runtime: the pod's network namespace is unusable
    ├── IOFailure               5   yes    the administrator: a file of the node cannot be read or written
    ├── Refused                11   yes    the user: no pool may give an address, or a network does not exist yet
    ├── NotReady               11   yes    nobody: caches are not synced, or we are stopping
    ├── Unavailable            50   yes    the container runtime: STATUS says that an ADD would fail now
    ├── ApiUnavailable         11   yes    the administrator: the API server gives no usable answer
    ├── Drift                 100   no     the container runtime: CHECK found something missing or changed
    ├── KernelFailure         101   yes    the administrator: netlink, sysctl or packet filter refused a request
    ├── PluginFailure         102   yes    the administrator: another CNI plugin, which we executed, has failed
    ├── AddressInUse          103   yes    the administrator: a machine outside the cluster has the pod's address
    │   └── AddressHeld       103   yes    nobody: a sandbox or a NIC of the node still has it; the pod gets another one
    └── GatewaySilent         104   yes    the administrator: the gateway of the pod's address does not answer

``again`` is the class attribute ``retriable``. Codes below 100 are those of the CNI specification 1.1.0, section
"Error"; codes from 100 on are ours. Packages with errors of their own derive them from these classes.
"""

from __future__ import annotations

from collections.abc import Sequence


class SpiderpoolError(Exception):
    """An error with a sentence for the operator.

    ``code`` is the CNI error code, ``details`` holds further facts or failures, ``retriable`` says whether the same
    request may succeed later without a change of manifests.
    """

    code = 999
    retriable = False

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class BadRequest(SpiderpoolError):
    """The caller sent malformed input; the same bytes fail again."""

    code = 7


class BadEnvironment(BadRequest):
    """A ``CNI_*`` variable is missing or wrong. The container runtime sets them."""

    code = 4


class Undecodable(BadRequest):
    """Input that is not JSON, or JSON of the wrong shape."""

    code = 6


class BadConfig(BadRequest):
    """A network configuration, manifest or setting that decodes but cannot be right; the user corrects it."""

    code = 7


class Unsupported(BadRequest):
    """A CNI version that we do not speak, or a command that the configured version does not have."""

    code = 1


class UnknownPlugin(BadRequest):
    """A plugin name or configuration field that the agent does not serve."""

    code = 2


class BadNamespace(SpiderpoolError):
    """The network namespace of the pod is missing or not a network namespace. The container runtime makes it."""

    code = 8


class IOFailure(SpiderpoolError):
    """A file or socket on the node could not be read or written; the administrator looks at the node."""

    code = 5
    retriable = True


class Refused(SpiderpoolError):
    """The pod cannot be served now. The message names every pool considered and why, for the user to act on."""

    code = 11
    retriable = True


class NotReady(SpiderpoolError):
    """Our caches are not synced yet, or we are shutting down. Nobody needs to act."""

    code = 11
    retriable = True


class Unavailable(SpiderpoolError):
    """The answer to STATUS while an ADD would fail; the container runtime marks the Node as not ready."""

    code = 50
    retriable = True


class ApiUnavailable(SpiderpoolError):
    """The API server did not answer in time, or answered with a server error."""

    code = 11
    retriable = True


class Drift(SpiderpoolError):
    """CHECK found an interface, address, route or record missing or changed; the container runtime decides."""

    code = 100


class KernelFailure(SpiderpoolError):
    """The kernel refused a netlink request, a sysctl or a rule for packet marks."""

    code = 101
    retriable = True


class PluginFailure(SpiderpoolError):
    """A CNI plugin that we executed for a pod's network has failed; the message quotes it."""

    code = 102
    retriable = True


class AddressInUse(SpiderpoolError):
    """A machine that the cluster does not know answers for an address chosen for a pod."""

    code = 103
    retriable = True


class AddressHeld(AddressInUse):
    """An address chosen for a pod cannot be used, because another sandbox of the node, or the node itself, has it."""


class GatewaySilent(SpiderpoolError):
    """The gateway of a pod's address does not answer on the NIC's network."""

    code = 104
    retriable = True


def raise_all(failures: Sequence[SpiderpoolError]) -> None:
    """Raise the first of several failures, with the messages and details of all others in its details.

    Returns when there are none. The CNI result has room for one code only, hence no exception group.
    """
    if not failures:
        return
    first, *others = failures
    further = (": ".join(filter(None, (error.message, error.details))) for error in others)
    first.details = "; ".join(filter(None, (first.details, *further)))
    raise first


def is_bug(error: BaseException) -> bool:
    """Whether an exception is none of ours: a loop that survives it logs where it came from."""
    return not isinstance(error, SpiderpoolError)
