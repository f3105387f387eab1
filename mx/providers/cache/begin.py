"""Starting a staging: folders, what a predecessor reached, and who may be replaced."""

from __future__ import annotations

from collections.abc import Callable

from mx.core.cached import StageHolder
from mx.core.model import EntryKey, Listing
from mx.providers.cache.failures import disk_errors
from mx.providers.cache.hashing import check_digests
from mx.providers.cache.journal import Story
from mx.providers.cache.layout import BOOKS, folder_of, has_view, kept_files
from mx.providers.cache.stage import DiskStaging
from mx.providers.cache.staged import open_stage, open_stage_instead, settle_parts
from mx.providers.cache.tree import Folder, Site

_ATTEMPTS = 20
OpenStage = Callable[[Folder], tuple[Folder, Story] | None]


def begin(site: Site, listing: Listing) -> DiskStaging:
    """Start or resume an entry, in the place of whoever does it at the moment."""
    staging = _begin(site, listing, lambda model: open_stage(model, listing.key))
    assert staging is not None  # nobody is waited for
    return staging


def begin_instead(site: Site, listing: Listing, holder: StageHolder | None) -> DiskStaging | None:
    """Start or resume an entry in the place of ``holder`` only (None: of nobody); None when it is not
    the one that stages it by now."""
    return _begin(site, listing, lambda model: open_stage_instead(model, listing.key, holder))


def _begin(site: Site, listing: Listing, open_one: OpenStage) -> DiskStaging | None:
    key = listing.key
    files = kept_files(key, listing.files)
    for file in files:
        check_digests(file, of=f"{file.path} of {key}")
    with disk_errors(f"staging {key}", site.root):
        opened = _open_both(site, key, open_one)
        if opened is None:
            return None
        model, stage, story = opened
        try:
            offsets = settle_parts(stage, story, files)
            staging = DiskStaging(site, key, model=model, stage=stage, files=files)
        except BaseException:
            stage.close()
            model.close()
            raise
        try:
            staging.resume(story, offsets)
        except BaseException:
            staging.close()
            raise
        return staging


def _open_both(site: Site, key: EntryKey, open_one: OpenStage) -> tuple[Folder, Folder, Story] | None:
    """The model's folder and a stage in it; again when a delete takes the empty folders away meanwhile."""
    for attempt in range(1, _ATTEMPTS + 1):
        with site.open() as root:
            model = None
            try:
                model = root.child(*folder_of(key), create=True)
                # First, so that whatever a crash leaves is known to be ours.
                model.child(BOOKS, create=True).close()
                if has_view(key.provider):
                    for name in ("blobs", "refs", "snapshots"):
                        model.child(name, create=True).close()
                opened = open_one(model)
                if opened is None:
                    model.close()
                    return None
                return (model, *opened)
            except FileNotFoundError:
                if model is not None:
                    model.close()
                if attempt == _ATTEMPTS:
                    raise
            except BaseException:
                if model is not None:
                    model.close()
                raise
    raise AssertionError
