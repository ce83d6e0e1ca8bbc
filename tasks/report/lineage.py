"""The lineage of a night: what was fixed when it opened, and what its stages made."""

from tasks.report.account import Account
from tasks.report.parts import Section, Table


def lineage(account: Account) -> Section:
    """Inputs, versions and hashes, for someone who wants to repeat the night or to check a model."""
    manifest = account.night.manifest
    opened = [
        ["opened", f"{manifest.opened_at:%Y-%m-%d %H:%M:%S} UTC"],
        ["code", manifest.code[:16]],
        ["commit", manifest.commit or "none"],
        ["champion at the start", f"version {manifest.champion.version}" if manifest.champion else "none"],
        ["seed", str(manifest.settings.run.seed)],
    ]
    places = []
    for record in account.night.snapshots():
        place = record.path or (f"table {record.table}, version {record.version}" if record.table else "figures alone")
        places.append(
            [
                record.stage.replace("_", " "),
                place,
                (record.sha256 or "")[:16],
                f"{record.rows or '':,}" if record.rows else "",
            ]
        )
    return Section(
        "Lineage",
        "The inputs that were fixed when the night opened, and everything that its stages made.",
        [Table(["", ""], opened), Table(["stage", "made", "sha256", "rows"], places)],
    )
