"""Circuits as SBML, level 3 version 2."""

from __future__ import annotations

from typing import Any

from varphi.dynamics.sbml import libsbml

from .circuit import Circuit, Gene

_SCALES = {"": 0, "m": -3, "u": -6, "µ": -6, "μ": -6, "n": -9, "p": -12, "f": -15}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def to_sbml(circuit: Circuit) -> str:
    """A circuit as SBML, level 3 version 2: one compartment of size 1, a reaction for each making and each loss.

    Raises:
        ImportError: the package python-libsbml is missing.
    """
    library: Any = libsbml()
    document = library.SBMLDocument(3, 2)
    model = document.createModel()
    model.setId("circuit")
    _write_units(library, model, circuit)
    cell = model.createCompartment()
    cell.setId("cell")
    cell.setSize(1)
    cell.setConstant(True)
    cell.setSpatialDimensions(3)
    for name, level in {**circuit.starts, **{i: circuit.parameters[i] for i in circuit.inputs}}.items():
        s = model.createSpecies()
        s.setId(name)
        s.setCompartment("cell")
        s.setInitialConcentration(level)
        s.setHasOnlySubstanceUnits(False)
        s.setBoundaryCondition(name in circuit.inputs)
        s.setConstant(name in circuit.inputs)
    for name, value in circuit.parameters.items():
        if name not in circuit.inputs:
            p = model.createParameter()
            p.setId(name)
            p.setValue(value)
            p.setConstant(True)
    for name, gene in circuit.genes.items():
        product = f"m{name}" if gene.transcript is not None else name
        sources = [r.source for r in gene.regulators]
        _write_reaction(
            library,
            model,
            f"make_{product}",
            None,
            product,
            f"basal_{name} + beta_{name}*{_formula(name, gene)}",
            sources,
        )
        if gene.transcript is not None:
            _write_reaction(library, model, f"lose_{product}", product, None, f"alpha_{product}*{product}", [])
            _write_reaction(library, model, f"make_{name}", None, name, f"translation_{name}*{product}", [product])
        _write_reaction(library, model, f"lose_{name}", name, None, f"alpha_{name}*{name}", [])
    return library.writeSBMLToString(document)


def _write_units(library: Any, model: Any, circuit: Circuit) -> None:
    amount, time = circuit.units.amount, circuit.units.time

    def define(name: str, kind: int, scale: int, multiplier: float) -> None:
        definition = model.createUnitDefinition()
        definition.setId(name)
        unit = definition.createUnit()
        unit.setKind(kind)
        unit.setExponent(1)
        unit.setScale(scale)
        unit.setMultiplier(multiplier)

    if amount.endswith("M"):
        define("amount_unit", library.UNIT_KIND_MOLE, _SCALES[amount[:-1]], 1.0)
        model.setSubstanceUnits("amount_unit")
        model.setExtentUnits("amount_unit")
        model.setVolumeUnits("litre")
    elif amount != "1":
        model.setSubstanceUnits("item")
        model.setExtentUnits("item")
        model.setVolumeUnits("dimensionless")
    if time != "1":
        define("time_unit", library.UNIT_KIND_SECOND, 0, float(_SECONDS[time]))
        model.setTimeUnits("time_unit")


def _formula(name: str, gene: Gene) -> str:
    """G as a formula."""
    if not gene.regulators:
        return "1"
    ratios = [f"({r.source}/K_{r.source}_{name})^n_{r.source}_{name}" for r in gene.regulators]
    if gene.gate == "OR" and len(ratios) > 1:
        heads = [ratio if r.sign > 0 else "1" for ratio, r in zip(ratios, gene.regulators, strict=True)]
        return f"(({' + '.join(heads)})/(1 + {' + '.join(ratios)}))"
    own = [f"({q if r.sign > 0 else 1}/(1 + {q}))" for q, r in zip(ratios, gene.regulators, strict=True)]
    return f"({(' + ' if gene.gate == 'SUM' else '*').join(own)})"


def _write_reaction(
    library: Any, model: Any, name: str, lost: str | None, made: str | None, law: str, acting: list[str]
) -> None:
    reaction = model.createReaction()
    reaction.setId(name)
    reaction.setReversible(False)
    for species, create in ((lost, reaction.createReactant), (made, reaction.createProduct)):
        if species is not None:
            reference = create()
            reference.setSpecies(species)
            reference.setStoichiometry(1)
            reference.setConstant(True)
    for source in dict.fromkeys(acting):
        reaction.createModifier().setSpecies(source)
    written = reaction.createKineticLaw()
    parsed = library.parseL3Formula(f"cell*({law})")
    assert parsed is not None, library.getLastParseL3Error()
    written.setMath(parsed)
