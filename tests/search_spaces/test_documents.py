import pytest

from search_spaces import (
    Choice,
    Constraint,
    Fixed,
    Float,
    Int,
    Problem,
    SearchSpace,
    SpaceError,
    SymLog,
    When,
    ZeroOr,
    all_of,
    any_of,
    catalog,
    greater_than,
    less_than,
    load_yaml,
    not_equal,
    one_of,
    parse_space,
)


def problems(text):
    with pytest.raises(SpaceError) as caught:
        parse_space(load_yaml(text))
    return str(caught.value).splitlines()


def test_every_form_of_a_parameter_is_read():
    space = parse_space(
        load_yaml("""
        use: [optimizer, snnl]
        parameters:
          optimizer.lr: {float: [1e-3, 1.0], log: true}
          batch_size: {choice: [32, 64, 128]}
          epochs: {int: [1, 8]}
          snnl.weight: {zero_or: {symlog: [-1.0, 1.0], gap: 0.001}, probability: 0.3}
          mixup.alpha: {zero_or: {float: [0.1, 4.0], log: true}}
          optimizer.name: sgd
          optimizer.schedule: {fixed: cosine}
        """)
    )
    assert {**space.parameters}.items() >= {
        "optimizer.lr": Float(1e-3, 1.0, log=True),
        "batch_size": Choice([32, 64, 128]),
        "epochs": Int(1, 8),
        "snnl.weight": ZeroOr(SymLog(-1.0, 1.0, gap=1e-3), 0.3),
        "mixup.alpha": ZeroOr(Float(0.1, 4.0, log=True), 0.5),
        "optimizer.name": Fixed("sgd"),
        "optimizer.schedule": Fixed("cosine"),
        "snnl.distance": Choice(["sqeuclidean", "cosine"]),
    }.items()


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("{a: 1}", [When("a", 1)]),
        ("{a: null}", [When("a", None)]),
        ("{a: [1, 2]}", [When("a", one_of(1, 2))]),
        ("{a: {not: 1}}", [When("a", not_equal(1))]),
        ("{a: {not: [1, 2]}}", [When("a", not_equal(1)), When("a", not_equal(2))]),
        ("{a: {greater_than: 1, not: 3}}", [When("a", greater_than(1)), When("a", not_equal(3))]),
        ("{a: {equals: 1}, b: {one_of: [2]}}", [When("a", 1), When("b", one_of(2))]),
        ("{a: {less_than: 3}}", [When("a", less_than(3))]),
        ("{any: [{a: 1}, {b: 2}]}", [any_of(When("a", 1), When("b", 2))]),
        ("{any: [{a: 1, b: 2}, {a: 3}]}", [any_of(all_of(When("a", 1), When("b", 2)), When("a", 3))]),
        ("{all: [{a: {greater_than: 1}}, {a: {greater_than: 2}}]}", [When("a", greater_than(n)) for n in (1, 2)]),
        ("{a: 1, any: [{b: 2}, {any: [{b: 3}]}]}", [When("a", 1), any_of(When("b", 2), When("b", 3))]),
        ("{any: 3, all: [1, 2]}", [When("any", 3), When("all", one_of(1, 2))]),  # parameters of these names
        ("{any: [{any: 3}, {all: {not: 2}}]}", [any_of(When("any", 3), When("all", not_equal(2)))]),
    ],
)
def test_every_form_of_a_condition_is_read(when, expected):
    others = "a: {int: [1, 3]}, b: 2, any: {int: [1, 3]}, all: {int: [1, 3]}"
    space = parse_space(load_yaml(f"parameters: {{{others}, c: {{fixed: 1, when: {when}}}}}"))
    assert space.when["c"] == all_of(*expected)
    assert SearchSpace.from_yaml(space.to_yaml()) == space


def test_no_conditions_are_no_condition():
    assert not parse_space({"parameters": {"c": {"fixed": 1, "when": {}}}}).when


def test_steps_orders_and_constraints_are_read():
    space = parse_space(
        load_yaml("""
        parameters:
          a: {float: [0, 1], step: 0.25}
          b: {int: [2, 8], step: 3}
          c: {choice: [16, 32], ordered: true}
        constraints: [a * 8 <= b]
        """)
    )
    assert dict(space.parameters) == {
        "a": Float(0.0, 1.0, step=0.25),
        "b": Int(2, 8, step=3),
        "c": Choice([16, 32], ordered=True),
    }
    assert space.constraints == (Constraint("a * 8 <= b"),)


def test_mistakes_in_conditions_and_constraints_are_found_where_they_stand():
    assert problems("""
        parameters:
          a: {int: [1, 9], step: 3}
          b: {fixed: 1, when: {any: [{a: {lees_than: 3}}, {}, {all: [{aa: 1}, {c: [[1]]}]}]}}
          c: {float: [1, 2], step: 0.1, log: true}
          d: {choice: [1, 2], orderd: true}
          e: {int: [1, 3]}
        constraints: [a < b, e > f, e >, d < 3, 7, sqr(e) < 2]
        """) == [
        (
            "space.parameters.a: high must be low and a whole number of steps, got low=1, high=9, step=3; "
            "the nearest: high=7 or high=10"
        ),
        "space.parameters.b.when.any.0.a: unknown condition 'lees_than'; did you mean 'less_than'?",
        "space.parameters.b.when.any.1: is empty; give it a condition, or leave it out",
        "space.parameters.b.when.any.2.all.1.c: must be None, a bool, an int, a float or a str, got [1] of type list",
        "space.parameters.c: step must not be combined with log=True, got 0.1; use a Choice of the values",
        "space.parameters.d.orderd: unknown field of 'choice'; did you mean 'ordered'?",
        "space.constraints.1: names 'f', which is not a parameter",
        "space.constraints.2: is not an expression: invalid syntax in 'e >'",
        "space.constraints.4: must be an expression of 1 to 400 characters, got 7",
        "space.constraints.5: unknown function 'sqr' in 'sqr(e)'; did you mean 'sqrt'?",
        "space.parameters.b: depends on 'aa', which is not a parameter; did you mean 'a'?",
    ]


def test_constraints_of_the_wrong_shape_are_refused():
    assert problems("constraints: a < b") == [
        "space.constraints: must be a list of texts such as \"a <= b\", got 'a < b'"
    ]


def test_replaced_parameter_keeps_the_conditions_of_its_fragment():
    space = parse_space({"use": ["optimizer"], "parameters": {"optimizer.momentum": {"float": [0.8, 0.9]}}})
    assert space.when["optimizer.momentum"] == When("optimizer.name", "sgd")


def test_replaced_parameter_takes_its_own_conditions():
    entry = {"float": [0.8, 0.9], "when": {}}
    space = parse_space({"use": ["optimizer"], "parameters": {"optimizer.momentum": entry}})
    assert "optimizer.momentum" not in space.when


def test_fragments_alone_are_their_union():
    assert parse_space({"use": ["mixup", "snnl"]}) == catalog.mixup() | catalog.snnl()


def test_empty_document_is_the_empty_space():
    assert parse_space({}) == SearchSpace({})


def test_all_problems_of_a_document_are_found_at_once():
    assert problems("""
        version: 2
        use: [optimzer, snnl]
        parmeters: 1
        parameters:
          a: {float: [1, 0]}
          b: {float: [1, 2], lgo: true}
          c: {chioce: [1]}
          d: [1, 2]
          e:
          f: {float: [0.1, x]}
          g: {zero_or: {float: [0.1, 1]}, probability: 2}
          h: {int: [1, 8], when: {d: {nott: 2}}}
          i: {float: [1], log: true}
          j: {symlog: [-1, 1]}
          k: {choice: 3}
          l: {zero_or: 3}
          m: {}
          n: {float: [0, 1], int: [0, 1]}
          o: {fixed: 1, when: [a]}
          p: {fixed: 1, when: {a: {}}}
          q: {fixed: 1, when: {a: {one_of: 3}}}
          r: {fixed: 1, when: {a b: 3}}
          s..t: 1
          u: {log: true}
        """) == [
        "space.parmeters: unknown field; did you mean 'parameters'?",
        "space.version: must be 1, got 2; use a newer version of ravel",
        "space.use: unknown fragment 'optimzer'; did you mean 'optimizer'?",
        "space.parameters.a: low < high must hold, got low=1.0, high=0.0",
        "space.parameters.b.lgo: unknown field of 'float'; did you mean 'log'?",
        "space.parameters.c: unknown domain 'chioce'; did you mean 'choice'?",
        "space.parameters.d: a list is not a domain; write {choice: [1, 2]}",
        "space.parameters.e: is empty; write a domain such as {float: [0.0, 1.0]}, or {fixed: null}",
        "space.parameters.f: high must be a finite number, got 'x'",
        (
            "space.parameters.g: probability must be in (0, 1), got 2.0; "
            "use the domain itself for never 0, Fixed(0) for always"
        ),
        "space.parameters.h.when.d: unknown condition 'nott'; did you mean 'not'?",
        "space.parameters.i: float must be [low, high], got [1]",
        "space.parameters.j: symlog needs a gap, the smallest magnitude; write {symlog: [-1.0, 1.0], gap: 0.001}",
        "space.parameters.k: choice must be a list of values, got 3",
        "space.parameters.l: zero_or must hold a domain such as {float: [0.1, 1.0]}, got 3",
        "space.parameters.m: has no domain; give one of float, int, symlog, choice, fixed, zero_or",
        "space.parameters.n: must have one domain, got float and int",
        "space.parameters.o.when: must be a mapping from parents to values, got ['a']",
        (
            "space.parameters.p.when.a: is empty; give a value, a list of values, or equals, one_of, not, "
            "greater_than, less_than"
        ),
        "space.parameters.q.when.a: one_of must be a list of values, got 3",
        "space.parameters.r.when.a b: a parameter name is identifiers joined by dots",
        "space.parameters.s..t: a parameter name is identifiers joined by dots",
        "space.parameters.u: has no domain; give one of float, int, symlog, choice, fixed, zero_or",
    ]


def test_problems_of_the_whole_space_are_found_beside_those_of_its_parts():
    assert problems("""
        use: [optimizer]
        parameters:
          a: {int: [3, 1]}
          b: {fixed: 1, when: {optimizer.nmae: sgd}}
          optimizer.lr.peak: 0.1
        """) == [
        "space.parameters.a: low < high must hold, got low=3, high=1",
        "space.parameters.optimizer.lr.peak: clashes with 'optimizer.lr', which holds a value; rename one of them",
        "space.parameters.b: depends on 'optimizer.nmae', which is not a parameter; did you mean 'optimizer.name'?",
    ]


def test_misspelt_value_in_a_condition_on_a_fragment_is_found():
    assert problems("""
        use: [optimizer]
        parameters: {optimizer.nesterov: {choice: [true, false], when: {optimizer.name: sdg}}}
        """) == [
        (
            "space.parameters.optimizer.nesterov.when.optimizer.name: 'sdg' is not one of 'sgd', 'adamw'; "
            "did you mean 'sgd'?"
        )
    ]


@pytest.mark.parametrize("document", [None, [], "use", {"use": "snnl"}, {"use": [1]}, {"parameters": [1]}])
def test_document_of_the_wrong_shape_is_refused(document):
    with pytest.raises(SpaceError, match=r"^space(\.\w+)?: must be a "):
        parse_space(document)


def test_path_of_the_document_leads_every_problem():
    with pytest.raises(SpaceError) as caught:
        parse_space({"parameters": {"a": [1]}}, path="sweep.space")
    assert caught.value.problems == (
        Problem("sweep.space.parameters.a", "a list is not a domain; write {choice: [1]}"),
    )
