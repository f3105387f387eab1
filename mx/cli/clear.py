"""``mx model clear`` and ``clear-all``: files and records, both or neither."""

from __future__ import annotations

from dataclasses import replace

import typer

from mx.cli import cache_view as view
from mx.cli.ask import confirm
from mx.cli.options import Invocation, with_client
from mx.cli.progress import Bar
from mx.client.base import Client
from mx.core.eviction import EvictionPlan
from mx.core.model import EntryKey, ModelRef
from mx.core.units import format_size
from mx.errors import ConflictError, MxError, NotFoundError


def clear_model(
    ctx: typer.Context,
    run: Invocation,
    ref: ModelRef,
    *,
    commit: str | None,
    force: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove one model, or show what would go."""
    plan = with_client(ctx, lambda client: _plan(client, ref, commit, force))
    about = {"model_name": ref.name, "provider": ref.provider.value, "registry_warning": None}
    if plan is None:
        _forget(ctx, run, ref, dry_run=dry_run, yes=yes)
        return
    if dry_run:
        message = f"{format_size(plan.bytes_freed)} of {ref.name} would go"
        run.out.emit(
            {
                "success": True,
                "message": message,
                **about,
                "registry_cleared": False,
                **view.plan_document(plan),
            },
            human=lambda: view.print_plan(run.out, plan, verb="remove"),
        )
        return
    if plan.survivors:
        held = "; ".join(f"{one.key} is {one.reason}" for one in plan.survivors)
        pinned = any(one.reason.startswith("pinned") for one in plan.survivors)
        raise ConflictError(
            f"nothing was removed: {held}", remedy="--force removes pinned ones" if pinned else "wait for it"
        )
    confirm(f"Remove {ref.name}, {format_size(plan.bytes_freed)}?", yes=yes)
    removed = with_client(
        ctx, lambda client: client.remove_model(ref.provider, ref.name, commit=commit, force=force)
    )
    message = f"{ref.name} removed, {format_size(removed.bytes_freed)} freed"
    document: view.Document = {
        "success": True,
        "message": message,
        **about,
        "registry_cleared": bool(removed.keys),
    }
    document |= view.plan_document(plan) | {"executed": True, "bytes_freed": removed.bytes_freed}
    run.out.emit(document, human=lambda: run.out.line(message))


async def _plan(client: Client, ref: ModelRef, commit: str | None, force: bool) -> EvictionPlan | None:
    """None on a published server, which has no plans."""
    from mx.client.operations import NotOfferedError

    try:
        return await client.plan_removal(provider=ref.provider, name=ref.name, commit=commit, force=force)
    except NotOfferedError:
        return None


def _forget(ctx: typer.Context, run: Invocation, ref: ModelRef, *, dry_run: bool, yes: bool) -> None:
    """All that a published server offers: its records go, its files stay."""
    warning = "this server keeps the files: it is no mx server"
    if not dry_run:
        confirm(f"Drop the records of {ref.name}? {warning.capitalize()}.", yes=yes)
        message = with_client(ctx, lambda client: client.delete_model(ref.provider, ref.name))
    else:
        message = f"the records of {ref.name} would go"
    document = {
        "success": True,
        "message": message,
        "model_name": ref.name,
        "provider": ref.provider.value,
        "registry_cleared": not dry_run,
        "registry_warning": warning,
        "bytes_freed": 0,
    }
    run.out.say(warning)
    run.out.emit(document, human=lambda: run.out.line(message))


def clear_everything(ctx: typer.Context, run: Invocation, *, force: bool, dry_run: bool, yes: bool) -> None:
    """Remove every model, or show what would go."""
    plan = with_client(ctx, lambda client: client.plan_removal(force=force))
    if dry_run:
        message = f"{len(plan.victims)} entries would go, {format_size(plan.bytes_freed)}"
        counts = {"registry_records_cleared": 0, "registry_records_failed": 0}
        run.out.emit(
            {"success": True, "message": message, **counts, **view.plan_document(plan)},
            human=lambda: view.print_plan(run.out, plan, verb="remove"),
        )
        return
    if not run.out.is_json:
        view.print_plan(run.out, plan, verb="remove")
    if plan.victims:
        confirm(f"Remove {len(plan.victims)} entries, {format_size(plan.bytes_freed)}?", yes=yes)
    gone, freed_bytes, failed = with_client(ctx, lambda client: _remove_all(run, client, plan, force))
    message = f"{len(gone)} entries removed, {format_size(freed_bytes)} freed"
    done = replace(plan, victims=tuple(one for one in plan.victims if one.key in gone))
    document = {
        "success": not failed and not plan.survivors,
        "message": message,
        "registry_records_cleared": len(gone),
        "registry_records_failed": len(failed),
        **view.plan_document(done),
        "executed": True,
        "bytes_freed": freed_bytes,
        "failed": [{**view.key_document(key), "reason": reason} for key, reason in failed.items()],
    }
    run.out.emit(document, human=lambda: run.out.line(message))
    stayed = {one.key: one.reason for one in plan.survivors} | failed
    if stayed:
        held = "; ".join(f"{key}: {reason}" for key, reason in list(stayed.items())[:5])
        raise ConflictError(f"{len(stayed)} entries stay: {held}")


async def _remove_all(
    run: Invocation, client: Client, plan: EvictionPlan, force: bool
) -> tuple[set[EntryKey], int, dict[EntryKey, str]]:
    """One entry after the other, so that one that can't go keeps no other."""
    gone: set[EntryKey] = set()
    failed: dict[EntryKey, str] = {}
    freed_bytes = 0
    with Bar(run.out) as bar:
        for done, victim in enumerate(plan.victims):
            key = victim.key
            words = f"{done} of {len(plan.victims)} entries, {format_size(freed_bytes)} freed"
            bar.show("removing", done, len(plan.victims), words, now_s=run.now())
            if key in gone:
                continue
            try:
                removed = await client.remove_model(key.provider, key.name, commit=key.commit, force=force)
            except NotFoundError:
                gone.add(key)
            except MxError as error:
                failed[key] = error.message
            else:
                gone.update(removed.keys)
                freed_bytes += removed.bytes_freed
    return gone, freed_bytes, failed
