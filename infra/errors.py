"""Everything that Ratchet raises on purpose. Each error says what was found, what was expected and what to do.

RatchetError            exit 1
├── InputError          exit 2: a wrong setting, file or reference; found before any work starts
├── ServiceError        a server cannot be reached or started (names its address)
│   └── ClusterLost     the Ray head is gone, or came back without the job
├── StoreError
│   ├── AlreadyExists   a conditional put found the key taken
│   ├── ArtifactMissing no manifest at this address
│   └── ArtifactCorrupt a file differs from its manifest
├── StageFailed         a stage ended with an error
│   └── EmptyDataset    every row was filtered out (carries the counts by reason)
└── StageCancelled      a stage was stopped on request
"""


class RatchetError(Exception):
    """Base of the tree. `message` says what is wrong, `remedy` what to do about it."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class InputError(RatchetError):
    exit_code = 2


class ServiceError(RatchetError):
    pass


class ClusterLost(ServiceError):
    pass


class StoreError(RatchetError):
    pass


class AlreadyExists(StoreError):
    pass


class ArtifactMissing(StoreError):
    pass


class ArtifactCorrupt(StoreError):
    pass


class StageFailed(RatchetError):
    """A stage that ended with an error; `stage` is its label in the run."""

    def __init__(self, message: str, remedy: str = "", stage: str = "") -> None:
        super().__init__(message, remedy)
        self.args = (message, remedy, stage)  # what pickle and copy rebuild it from
        self.stage = stage


class EmptyDataset(StageFailed):
    pass


class StageCancelled(RatchetError):
    pass
