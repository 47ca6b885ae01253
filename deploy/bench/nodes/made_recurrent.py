"""Random cases of recurrent layers, of graphs within graphs, and of attention."""

import numpy
from onnx import TensorProto, helper, numpy_helper

from .made import F16, F32, F64, Const, build, maker, model

I64 = numpy.int64
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@maker("LSTM", "GRU", "RNN")
def recurrent(made, operator):
    gates, steps, batch, width, hidden = GATES[operator], made.pick([1, 2, 5]), made.randint(1, 3), made.randint(1, 4), made.randint(1, 4)
    direction = made.pick([None, "forward", "reverse", "bidirectional"])
    directions = 2 if direction == "bidirectional" else 1
    layout = made.pick([None, None, 0, 1])
    dtype = made.pick([F32] * 6 + [F16, F64])
    x = made.floats([batch, steps, width] if layout else [steps, batch, width], dtype)
    inputs = [x, Const(made.floats([directions, gates * hidden, width], dtype, -1, 1)), Const(made.floats([directions, gates * hidden, hidden], dtype, -1, 1))]
    if made.flag(0.15):
        inputs[1:] = [part.value for part in inputs[1:]]
    inputs.append(Const(made.floats([directions, 2 * gates * hidden], dtype, -1, 1)) if made.flag(0.7) else None)
    lengths = made.pick([None, None, None, [steps] * batch, [made.randint(1, steps) for _ in range(batch)]])
    inputs.append(None if lengths is None else made.maybe(numpy.array(lengths, numpy.int32)))
    state = [batch, directions, hidden] if layout else [directions, batch, hidden]
    inputs.append(made.maybe(made.floats(state, dtype)) if made.flag(0.4) else None)
    names = ["y", "y_h"]
    if operator == "LSTM":
        names.append("y_c")
        inputs.append(made.maybe(made.floats(state, dtype)) if made.flag(0.4) else None)
        inputs.append(Const(made.floats([directions, 3 * hidden], dtype, -1, 1)) if made.flag(0.2) else None)
    names = [name if made.flag(0.75) else "" for name in names]
    while names and not names[-1]:
        names.pop()
    chosen = {"direction": direction, "hidden_size": hidden, "layout": layout}
    if operator == "GRU":
        chosen["linear_before_reset"] = made.pick([None, 0, 1])
    if made.flag(0.2):
        each = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[operator]
        others = {"LSTM": ["Tanh", "Relu", "Tanh"], "GRU": ["HardSigmoid", "Tanh"], "RNN": ["Relu"]}[operator]
        chosen["activations"] = made.pick([each, others]) * directions
    if made.flag(0.1):
        chosen["clip"] = 0.3
    if operator == "LSTM" and made.flag(0.1):
        chosen["input_forget"] = 1
    return build(operator, inputs, names or ["y"], opset=14, **chosen)


def port(name, value):
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


@maker("If")
def branches(made, operator):
    x, flag = made.floats([2, 3], F32), numpy.asarray(made.flag())
    weight = numpy_helper.from_array(made.floats([2, 3], F32), "w")
    def branch(name, op):
        return helper.make_graph([helper.make_node(op, ["x", "w"], [name])], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("a", made.pick(["Add", "Mul"])), else_branch=branch("b", made.pick(["Sub", "Max"])))
    if made.flag():
        return model([node], [port("x", x)], ["y"], [weight, numpy_helper.from_array(flag, "flag")]), [x]
    return model([node], [port("flag", flag), port("x", x)], ["y"], [weight]), [flag, x]


@maker("Scan")
def scan(made, operator):
    steps, width = made.randint(1, 4), made.randint(1, 3)
    state, x = made.floats([width], F32), made.floats([steps, width], F32)
    inner = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "e"], ["n"]), helper.make_node("Mul", ["n", "e"], ["o"])],
        "body",
        [inner("s", 1, [width]), inner("e", 1, [width])],
        [inner("n", 1, [width]), inner("o", 1, [width])],
    )
    chosen = {name: [made.randint(0, 1)] for name in ("scan_input_directions", "scan_output_directions") if made.flag()}
    node = helper.make_node("Scan", ["s0", "x"], ["last", "all"], body=body, num_scan_inputs=1, **chosen)
    return model([node], [port("s0", state), port("x", x)], ["last", "all"], [], 11, kinds=[1, 1]), [state, x]


@maker("Attention")
def attention(made, operator):
    batch, heads, size, q_len, kv_len = made.randint(1, 2), made.pick([1, 2, 4]), made.pick([2, 4, 8]), made.randint(1, 5), made.randint(1, 5)
    kv_heads = made.pick([heads, 1]) if made.flag(0.3) else heads
    v_size = size if made.flag(0.7) else size + 1
    flat = made.flag(0.4)
    dtype = made.pick([F32] * 4 + [F16, F64])
    shapes = [[heads, q_len, size], [kv_heads, kv_len, size], [kv_heads, kv_len, v_size]]
    if flat:
        values = [made.floats([batch, length, count * width], dtype) for count, length, width in shapes]
    else:
        values = [made.floats([batch, *shape], dtype) for shape in shapes]
    chosen = {"is_causal": made.pick([None, 0, 1]), "scale": made.pick([None, 0.3]), "q_num_heads": heads if flat else None, "kv_num_heads": kv_heads if flat else None}
    past = made.flag(0.3)
    before = made.randint(1, 3) if past else 0
    mask = None
    if made.flag(0.5):
        of = made.pick([[q_len, kv_len + before], [1, 1, q_len, kv_len + before], [batch, 1, q_len, kv_len + before], [batch, heads, q_len, kv_len + before]])
        mask = made.values(of, bool) if made.flag() else made.floats(of, dtype)
    inputs = [*values, mask]
    if past:
        inputs += [made.floats([batch, kv_heads, before, size], dtype), made.floats([batch, kv_heads, before, v_size], dtype)]
    outputs = ["y"] + (["k", "v"] if past or made.flag(0.2) else [])
    if made.flag(0.1):
        chosen["softcap"] = 2.0
    if made.flag(0.1):
        outputs = ["y", "k", "v", "qk"]
        chosen["qk_matmul_output_mode"] = made.pick([None, 1, 2, 3])
    return build(operator, inputs, outputs, opset=made.pick([23, 24]), **chosen)


@maker("RotaryEmbedding")
def rotary(made, operator):
    batch, steps, heads, size = made.randint(1, 2), made.randint(1, 4), made.randint(1, 3), made.pick([4, 8])
    part = made.pick([None, None, size // 2])
    flat, interleaved = made.flag(), made.pick([None, 0, 1])
    half = (part or size) // 2
    x = made.floats([batch, steps, heads * size] if flat else [batch, heads, steps, size], made.pick([F32, F32, F16]))
    dtype = x.dtype.type
    if made.flag():
        caches, spots = [[8, half]] * 2, made.integers([batch, steps], I64, 0, 7)
    else:
        caches, spots = [[batch, steps, half]] * 2, None
    inputs = [x, *(made.maybe(made.floats(shape, dtype, -1, 1)) for shape in caches), spots]
    return build(operator, inputs, opset=23, num_heads=heads if flat else None, rotary_embedding_dim=part, interleaved=interleaved)
