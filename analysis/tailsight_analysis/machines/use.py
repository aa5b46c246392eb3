"""For how long do requests keep each type of device busy, and what does that cost in money and energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tailsight_analysis.machines.result import HardwareUse
from tailsight_analysis.queries import query
from tailsight_analysis.requests.accounting import Bools, Floats, Ints
from tailsight_analysis.scope import NS_PER_MS, NS_PER_S
from tailsight_analysis.statistics.linearised import mean_interval
from tailsight_storage import Store

NOT_BUSY = ("queue", "network")  # stages in which a request waits, and no device works for it


@dataclass(frozen=True, slots=True)
class Power:
    """Devices of a type that were measured: how many, and the mean power of one, in watts (None: none was measured)."""

    devices: int
    mean_w: float | None


@dataclass(frozen=True, slots=True)
class Busy:
    """Busy time, an entry a trace and a type that it used. `weight` is for how many requests the trace stands.

    `hosts` has the number of hosts of each type, by code.
    """

    busy_ms: Floats
    weight: Floats
    hardware: Ints
    block: Ints
    hosts: Ints


def fetch_power(store: Store, since_ns: int, until_ns: int, hosts: Mapping[str, set[str]]) -> dict[str, Power]:
    """Fetch the mean power of each type's devices on those hosts; a device that two senders measure counts once."""
    rows = store.ask(query("hardware_energy"), since_ns=since_ns, until_ns=until_ns)
    best: dict[tuple[str, str, str], tuple[bool, float, float]] = {}
    for row in rows:
        name, host = str(row["hardware"]), str(row["host"])
        if name not in hosts or (host and host not in hosts[name]):
            continue
        device = (name, host, str(row["hw_id"]))
        # counters are exact where power is a sample; of several senders, who looked longest
        candidate = (bool(row["counted"]) and row["seconds"] > 0, float(row["seconds"]), float(row["joules"]))
        best[device] = max(best.get(device, candidate), candidate)
    found = {}
    for name in sorted({device[0] for device in best}):
        measured = [entry for device, entry in best.items() if device[0] == name]
        powers = [joules / seconds for _, seconds, joules in measured if seconds > 0]
        found[name] = Power(len(measured), sum(powers) / len(powers) if powers else None)
    return found


def busy_time(own_ns: Ints, stage: Ints, batch: Floats, stages: list[str], staged_hardware: Bools) -> Floats:
    """Time that each span kept its device busy for one request, in ms: its own time, shared by those of its batch.

    `stage` is the span's, or that of its nearest ancestor with one (a code of `stages`). Stages in NOT_BUSY count as 0,
    and so does time without a stage, unless no span on the same hardware has one (`staged_hardware`).
    """
    waits = np.array([name in NOT_BUSY for name in stages], dtype=np.bool_)[stage]
    nowhere = np.array([not name for name in stages], dtype=np.bool_)[stage] & staged_hardware
    shared = np.where(np.isfinite(batch), np.maximum(batch, 1.0), 1.0)
    return np.where(waits | nowhere, 0.0, own_ns / NS_PER_MS / shared)


def uses_of(
    busy: Busy,
    hardware: list[str],
    scale: float,
    observed_s: float,
    prices: Mapping[str, float],
    power: Mapping[str, Power],
    whole: bool,
) -> tuple[HardwareUse, ...]:
    """Sum up the use of each type, most busy time first.

    `scale` is for how many requests one of weight 1 stands, `observed_s` the time that they came in, `prices` are an
    hour's, by name. Where filters leave requests out (not `whole`), nobody knows what else the devices did: what is
    paid for all their time, their energy and their utilisation are None.
    """
    priced = {name.casefold(): price for name, price in prices.items()}
    found = []
    for code in np.unique(busy.hardware).tolist():
        chosen = busy.hardware == code
        name, weight, spent = hardware[code], busy.weight[chosen], busy.busy_ms[chosen]
        if not name or not weight.sum():
            continue
        requests = float(weight.sum()) * scale
        busy_ms = float(weight @ spent) / float(weight.sum())
        measured = power.get(name, Power(0, None))
        devices = max(int(busy.hosts[code]), measured.devices)
        time_s = devices * observed_s if whole else 0.0  # of all devices
        price, watts = priced.get(name.casefold()), measured.mean_w
        found.append(
            HardwareUse(
                hardware=name,
                devices=devices,
                requests=round(requests),
                busy_ms=busy_ms,
                busy_interval_ms=mean_interval(spent, weight, busy.block[chosen]),
                utilisation=busy_ms / 1000 * requests / time_s if time_s else None,
                price_per_hour=price,
                cost_busy=None if price is None else busy_ms / 3_600_000 * price,
                cost_paid=None if price is None or not time_s else time_s / 3600 * price / requests,
                power_w=watts,
                energy_busy_j=None if watts is None else busy_ms / 1000 * watts,
                energy_j=None if watts is None or not time_s else time_s * watts / requests,
            )
        )
    return tuple(sorted(found, key=lambda use: (-use.busy_ms * use.requests, use.hardware)))


def observed_seconds(first_ns: int, last_ns: int) -> float:
    """Length of the time that requests came in."""
    return (last_ns - first_ns) / NS_PER_S
