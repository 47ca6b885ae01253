"""The onnx package's own node cases."""

import warnings

from .case import Case, Unservable, array


def cases() -> list:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        loaded = load_model_tests(kind="node")
    made = []
    for test in loaded:
        model = test.model
        family = model.graph.node[0].op_type if len(model.graph.node) == 1 else "(expanded)"
        for at, (inputs, outputs) in enumerate(test.data_sets):
            name = test.name if at == 0 else f"{test.name}_{at}"
            case = Case(name, family, model.SerializeToString(), [], [], test.rtol, test.atol)
            try:
                case.inputs, case.expected = [array(value) for value in inputs], [array(value) for value in outputs]
            except Unservable as error:
                case.outcome, case.detail = "not a tensor", str(error)
            made.append(case)
    return made
