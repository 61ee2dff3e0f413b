"""How things are measured here: by turns in one process, medians, ratios; memory in a process of its own.

The machines are shared, so absolute times mean little. Therefore two things run by turns, and the ratio of their times is reported.
"""

import datetime
import multiprocessing
import platform
import resource
import statistics
import time

import numpy as np
import torch
import transformers


def machine(device):
    """Facts about the machine, which every result holds."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def by_turns(sides, rounds=5, device="cpu", uncounted=1, clock=time.perf_counter):
    """Seconds of each call, by turns A / B / A / B, after rounds that are not counted.

    Args:
        sides: {name: callable}.
        clock: of seconds; `time.process_time` counts the CPU's of this process, and does not see what else runs.

    Returns:
        {name: median seconds}, and the median over rounds of first side's time over each other's, {name: ratio}.
    """
    times = {name: [] for name in sides}
    for number in range(-uncounted, rounds):
        for name, call in sides.items():
            seconds = timed(call, device, clock)
            if number >= 0:
                times[name].append(seconds)
    first = next(iter(sides))
    ratios = {
        name: statistics.median(own / other for own, other in zip(values, times[first])) for name, values in times.items() if name != first
    }
    return {name: statistics.median(values) for name, values in times.items()}, ratios


def compare(ours, reference, rounds=5, device="cpu", uncounted=1, clock=time.perf_counter):
    """{"ours", "reference": median seconds, "ratio": reference / ours}."""
    seconds, ratios = by_turns({"ours": ours, "reference": reference}, rounds, device, uncounted, clock)
    return {"ours": round(seconds["ours"], 5), "reference": round(seconds["reference"], 5), "ratio": round(ratios["reference"], 2)}


def timed(call, device="cpu", clock=time.perf_counter):
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def peak_memory(make, *arguments, device="cpu"):
    """MiB that a call needs above what stood before it: on a CPU in a fresh process, by its highest resident size.

    Args:
        make: a function of a module, `make(*arguments)` -> the call to measure.
    """
    if device == "cuda":
        call = make(*arguments)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure_peak, args=(queue, torch.get_num_threads(), make, arguments))
    process.start()
    peak = queue.get()
    process.join()
    return peak


def _measure_peak(queue, threads, make, arguments):
    torch.set_num_threads(threads)
    block = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(64, 4))
    (block(torch.randn(2, 2, 4, 4)) @ torch.randn(4, 4)).tanh().sum().backward()  # libraries load on their first use: not counted
    call = make(*arguments)
    with open("/proc/self/statm", encoding="utf-8") as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    call()
    with open("/proc/self/status", encoding="utf-8") as file:  # ru_maxrss would start at the parent's
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024
    queue.put(round((peak - before) / 2**20, 1))


def growth_exponent(sizes, values):
    """Slope of log value over log size: 1 grows with the size, 2 with its square."""
    return round(float(np.polyfit(np.log(sizes), np.log(values), 1)[0]), 3)
