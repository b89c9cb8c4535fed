"""The systems of the chapter, one folder each. No system imports another."""

# Where each study is declared: "module:attribute", loaded when it is asked for.
STUDIES = {
    "certified": "varphi.systems.certified.study:STUDY",
    "circuits": "varphi.systems.circuits.study:STUDY",
    "circuits_noise": "varphi.systems.circuits.noise_study:STUDY",
    "constrained": "varphi.systems.constrained.study:STUDY",
    "heavy_tails": "varphi.systems.heavy_tails.study:STUDY",
    "heavy_tails_real": "varphi.systems.heavy_tails.real:STUDY",
    "neurons": "varphi.systems.neurons.study:STUDY",
    "physics": "varphi.systems.physics.study:STUDY",
    "physics_burgers": "varphi.systems.physics.burgers:STUDY",
    "physics_lshape": "varphi.systems.physics.lshape:STUDY",
}
