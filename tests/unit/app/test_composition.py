"""A child of a mount, composed in this process and ended again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from ossmount.app.composition import plan_mount, run_prefetcher
from ossmount.config import compose
from ossmount.model import BlockId, FileRef
from ossmount.readahead import DatasetPlanner, Fetcher
from ossmount.readahead.messages import opened_frame
from tests.support.index_files import index_of, numbered_tree


def test_a_prefetcher_ends_amid_a_plan_of_files_that_the_disk_cache_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a plan goes on at each turn of the loop, until after all else has been closed."""
    index = index_of(numbered_tree(tmp_path / "tree", 1), tmp_path / "index")
    settings = compose({"cache_dir": str(tmp_path / "cache"), "cache_size": 64 << 20, "prefetchers": 1})
    plan = plan_mount(index, settings, tmp_path / "runtime")
    planned = trio.Event()

    def take(planner: DatasetPlanner, limit: int) -> list[FileRef]:
        planned.set()
        return [FileRef(3, 9)]

    def bring_near(fetcher: Fetcher, blocks: Sequence[BlockId]) -> list[bool]:
        return [True] * len(blocks)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_prefetcher, plan, 0)
            os.write(plan.observations[0][1], opened_frame(3))
            await planned.wait()
            nursery.cancel_scope.cancel()

    monkeypatch.setattr(DatasetPlanner, "take", take)
    monkeypatch.setattr(Fetcher, "bring_near", bring_near)
    trio.run(run)
    for descriptor in plan.observations[0]:
        os.close(descriptor)
