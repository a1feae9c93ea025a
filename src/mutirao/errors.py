"""Every error Mutirão raises on purpose.

MutiraoError
├── ConfigError      a setting is wrong: names the key, the value, what to do
├── PolicyError      a policy file or adoption is wrong
├── RuleError        a rule file is wrong
├── ScanError        a file to be judged is not there, or is no notebook
├── StoreError       the database can't be read or written
├── SandboxError     walls can't be built, or a runtime can't be started
├── TooLongError     code is longer than anybody could judge
└── WireError        a frame or message breaks the protocol

The message says what happened, with which value, and what to do.
"""


class MutiraoError(Exception):
    """The base: `str(error)` is a sentence fit for a person."""


class ConfigError(MutiraoError):
    """A setting is wrong."""


class PolicyError(MutiraoError):
    """A policy version or its adoption is wrong."""


class RuleError(MutiraoError):
    """A rule file is wrong."""


class ScanError(MutiraoError):
    """A file to be judged is not there, or is no notebook."""


class StoreError(MutiraoError):
    """The database can't be read or written."""


class SandboxError(MutiraoError):
    """Walls can't be built, or a runtime can't be started inside them."""


class TooLongError(MutiraoError):
    """Code is longer than can be judged before it runs."""


class WireError(MutiraoError):
    """A frame or message breaks the Jupyter messaging protocol."""
