"""What the committed runs of a few figures read, told by the digest of their data; other data have no name here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latebloom.theory.record import Record

__all__ = ["told_corpus"]

CORPORA = {  # by digest of the data prepared
    "a7329df0daa920a04217e402e08d68ddb926b1ad9a93f26700b93d8f548eb217": "tinyshakespeare",
    "3127d7595fd87f37ce4199ee5b8f87aac992f0f27e51c4edb4f816863e011fec": "ELTeC novels",
    "4674dd9eab9ab30c9e27b4c820afaa2fabbc8611a89f6cc83a9bc0bbdf7d0a85": "novels as bytes",
    "858521e6a62a768cdf29e9774b5a79925d21abf89e06a41b62ac1d8a4568ecac": "the demo's corpus",
}


def told_corpus(record: Record) -> str:
    """The data of a run in words.

    Args:
        record: Of the run.
    """
    return CORPORA.get(record.header.data_digest or "", "own data")
