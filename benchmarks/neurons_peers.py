"""Brian2 and NEURON on the f–I curve of `neurons.py`: run by it with an interpreter that has them.

    python benchmarks/neurons_peers.py brian2|neuron

Prints JSON: for each way to run, the CPU seconds of the simulation alone (of children too; without code generation and
compilation) and the frequencies. Imports nothing of varphi.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time

import numpy as np

CURRENTS = np.linspace(10.5, 80, 200)
WINDOW, DROPPED, LEVEL = 2000.0, 500.0, -40.0


def cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def rates(spikes: list[np.ndarray]) -> list[float]:
    late = [t[t > DROPPED] for t in spikes]
    return [1000 * (len(t) - 1) / (t[-1] - t[0]) if len(t) > 1 else float("nan") for t in late]


def brian2() -> list[dict]:
    import brian2 as b

    b.set_device("cpp_standalone", build_on_run=False, directory=tempfile.mkdtemp())
    b.prefs.devices.cpp_standalone.openmp_threads = 0
    b.defaultclock.dt = 0.025 * b.ms
    equations = """
    dV/dt = (I - 120*m**3*h*(V - 50) - 36*n**4*(V + 77) - 0.3*(V + 54.387))/ms : 1
    dm/dt = (1/exprel(-(V + 40)/10)*(1 - m) - 4*exp(-(V + 65)/18)*m)/ms : 1
    dh/dt = (0.07*exp(-(V + 65)/20)*(1 - h) - h/(1 + exp(-(V + 35)/10)))/ms : 1
    dn/dt = (0.1/exprel(-(V + 55)/10)*(1 - n) - 0.125*exp(-(V + 65)/80)*n)/ms : 1
    I : 1
    """
    group = b.NeuronGroup(
        len(CURRENTS), equations, threshold=f"V > {LEVEL}", refractory=f"V > {LEVEL}", method="rk4"
    )  # fmt: skip
    group.V, group.m, group.h, group.n, group.I = -60, 0.1, 0.5, 0.3, CURRENTS
    monitor = b.SpikeMonitor(group)
    b.run(WINDOW * b.ms)
    b.device.build(run=False, compile=True)
    begin = cpu()
    b.device.run()
    seconds = cpu() - begin
    trains = monitor.spike_trains()
    spikes = [np.asarray(trains[k] / b.ms) for k in range(len(CURRENTS))]
    return [{"name": f"Brian2 {b.__version__} C++ RK4, dt 0.025", "cpu": seconds, "frequency": rates(spikes)}]


def neuron() -> list[dict]:
    from neuron import __version__, h

    h.load_file("stdrun.hoc")
    kept, vectors = [], []
    for current in CURRENTS:
        section = h.Section()
        section.L = section.diam = 100 / np.sqrt(np.pi)
        section.nseg, section.cm = 1, 1
        section.insert("hh")
        section.ena, section.ek, section(0.5).hh.el = 50, -77, -54.387
        clamp = h.IClamp(section(0.5))
        clamp.delay, clamp.dur, clamp.amp = 0, 1e9, current * section(0.5).area() * 1e-5
        watch, vector = h.NetCon(section(0.5)._ref_v, None, sec=section), h.Vector()
        watch.threshold = LEVEL
        watch.record(vector)
        kept += [section, clamp, watch]
        vectors.append(vector)
    h.celsius, h.v_init, h.tstop = 6.3, -60, WINDOW
    h.usetable_hh = 0  # the table of rates alone would be wrong by 1e-3
    found = []
    for dt, order in ((0.025, 0), (0.025, 2), (0.005, 2)):
        h.steps_per_ms, h.dt, h.secondorder = 1 / dt, dt, order
        begin = cpu()
        h.stdinit()
        h.run()
        seconds = cpu() - begin
        told = "second order" if order else "first order"
        found.append({"name": f"NEURON {__version__} {told}, dt {dt:g}", "cpu": seconds,
                      "frequency": rates([np.array(v) for v in vectors])})  # fmt: skip
    return found


if __name__ == "__main__":
    print(json.dumps({"brian2": brian2, "neuron": neuron}[sys.argv[1]]()))
