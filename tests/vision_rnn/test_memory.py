"""Memory that is kept, seen by the pages that the system has to give anew."""

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource
import torch
from vision_rnn.memory import keep_freed_memory

def pages() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**24).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

{call}
pages()
print(pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again_without_asking_for_it():
    def pages(call: str) -> int:
        code = PAGES.format(call=call)
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    assert pages("keep_freed_memory()") < 100 < pages("pass")
