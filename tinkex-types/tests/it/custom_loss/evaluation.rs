//! Values of the evaluator: the recorded graphs, every operation, broadcasting, and errors that name the node.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, LOG10_2, SQRT_2};

use serde_json::{Value, json};
use tinkex_types::custom_loss::{DenseArray, LossGraphErrorKind};

use super::{evaluate_one, function, graph_of, inputs, method, recorded_graph, total, vector};

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * (1.0 + b.abs()) || (a.is_nan() && b.is_nan()) || a == b
}

/// The recorded clipped surrogate, by hand: ratios e^0.5, 1, e^-1 with advantage 1, clipped to 0.8 ..= 1.2.
#[test]
fn the_recorded_surrogate_evaluates() {
    let arrays = [
        ("logprobs", vector(&[-0.5, -1.0, -2.0])),
        ("old", vector(&[-1.0, -1.0, -1.0])),
        ("adv", vector(&[1.0, 1.0, 1.0])),
    ];
    let result = recorded_graph(0).evaluate(&inputs(&arrays)).unwrap();
    let (up, down) = (0.5f64.exp(), (-1.0f64).exp());
    assert!(close(result.loss, -(1.2 + 1.0 + down)), "{result:?}");
    assert!(close(result.metrics["custom/ratio:mean"], (up + 1.0 + down) / 3.0));
    assert_eq!(result.metrics["custom/m:sum"], f64::INFINITY);
    // Clipped: none. Both branches equal and the bound not reached: all of it. Unclipped: the ratio.
    let expected = [0.0, -1.0, -down];
    assert_eq!(result.logprobs_gradient.len(), 3);
    for (ours, expected) in result.logprobs_gradient.iter().zip(expected) {
        assert!(close(f64::from(*ours), expected), "{result:?}");
    }
}

#[test]
fn the_recorded_likelihood_evaluates() {
    let arrays = [("logprobs", vector(&[-0.5, -1.0, -2.0])), ("weights", vector(&[1.0, 2.0, 3.0]))];
    let result = recorded_graph(1).evaluate(&inputs(&arrays)).unwrap();
    assert_eq!(result.loss, 8.5);
    assert_eq!(result.metrics["custom/neg_ll:sum"], 8.5);
    assert_eq!(result.metrics["custom/tok:mean"], 6.0);
    assert_eq!(result.logprobs_gradient, [-1.0, -2.0, -3.0]);
}

fn matrix(rows: usize, columns: usize, values: &[f64]) -> DenseArray {
    DenseArray::matrix(rows, columns, values).unwrap()
}

/// The values of one operation.
fn values(target: &str, args: Value, kwargs: Value, logprobs: &DenseArray, other: &DenseArray) -> Vec<f64> {
    let node = if target.contains('.') || target == "getattr" {
        function("y", target, &args, &kwargs)
    } else {
        method("y", target, &args, &kwargs)
    };
    elements(&[node], "y", logprobs, other)
}

/// The elements of a node, in order: each is read by an index into the flattened node.
fn elements(nodes: &[Value], name: &str, logprobs: &DenseArray, other: &DenseArray) -> Vec<f64> {
    let read = |index: usize| {
        let mut all = nodes.to_vec();
        all.push(method("flat", "flatten", &json!([{"ref": name}]), &json!({})));
        all.push(function("element", "operator.getitem", &json!([{"ref": "flat"}, index]), &json!({})));
        // Not every operation has a gradient, and every loss must.
        all.push(method("zeros", "clamp", &json!([{"ref": "logprobs"}, 0, 0]), &json!({})));
        all.push(method("none", "sum", &json!([{"ref": "zeros"}]), &json!({})));
        all.push(function("loss", "operator.add", &json!([{"ref": "element"}, {"ref": "none"}]), &json!({})));
        graph_of(&all).evaluate(&inputs(&[("logprobs", logprobs.clone()), ("other", other.clone())]))
    };
    let mut found = Vec::new();
    loop {
        match read(found.len()) {
            Ok(result) => found.push(result.loss),
            Err(error) if error.node() == Some("element") => return found,
            Err(error) => panic!("{error}"),
        }
    }
}

#[track_caller]
fn assert_values(
    target: &str,
    args: Value,
    kwargs: Value,
    (logprobs, other): (&DenseArray, &DenseArray),
    expected: &[f64],
) {
    let ours = values(target, args.clone(), kwargs.clone(), logprobs, other);
    let same = ours.len() == expected.len() && ours.iter().zip(expected).all(|(a, b)| close(*a, *b));
    assert!(same, "{target} {args} {kwargs}: {ours:?}, not {expected:?}");
}

const X: fn() -> Value = || json!({"ref": "logprobs"});
const Y: fn() -> Value = || json!({"ref": "other"});

#[test]
fn functions_of_one_number() {
    let (x, one) = (vector(&[-1.5, 0.0, 2.0]), vector(&[1.0]));
    let nan = f64::NAN;
    for (target, expected) in [
        ("operator.neg", [1.5, 0.0, -2.0]),
        ("operator.pos", [-1.5, 0.0, 2.0]),
        ("torch.exp", [0.223_130_160, 1.0, 7.389_056_099]),
        ("torch.exp2", [0.353_553_391, 1.0, 4.0]),
        ("torch.expm1", [-0.776_869_840, 0.0, 6.389_056_099]),
        ("torch.log", [nan, f64::NEG_INFINITY, LN_2]),
        ("torch.log2", [nan, f64::NEG_INFINITY, 1.0]),
        ("torch.log10", [nan, f64::NEG_INFINITY, LOG10_2]),
        ("torch.log1p", [nan, 0.0, 1.098_612_289]),
        ("torch.sqrt", [nan, 0.0, SQRT_2]),
        ("torch.rsqrt", [nan, f64::INFINITY, FRAC_1_SQRT_2]),
        ("torch.square", [2.25, 0.0, 4.0]),
        ("torch.reciprocal", [-0.666_666_667, f64::INFINITY, 0.5]),
        ("torch.abs", [1.5, 0.0, 2.0]),
        ("torch.sign", [-1.0, 0.0, 1.0]),
        ("torch.floor", [-2.0, 0.0, 2.0]),
        ("torch.ceil", [-1.0, 0.0, 2.0]),
        ("torch.trunc", [-1.0, 0.0, 2.0]),
        ("torch.round", [-2.0, 0.0, 2.0]),
        ("torch.sin", [-0.997_494_987, 0.0, 0.909_297_427]),
        ("torch.cos", [0.070_737_202, 1.0, -0.416_146_837]),
        ("torch.tanh", [-0.905_148_254, 0.0, 0.964_027_580]),
        ("torch.sigmoid", [0.182_425_524, 0.5, 0.880_797_078]),
        ("torch._C._nn.log_sigmoid", [-1.701_413_277, -LN_2, -0.126_928_011]),
        ("torch._C._nn.softplus", [0.201_413_278, LN_2, 2.126_928_011]),
        ("torch.nn.functional.relu", [0.0, 0.0, 2.0]),
        ("operator.invert", [0.0, 1.0, 0.0]),
        ("torch.isnan", [0.0, 0.0, 0.0]),
        ("torch.isfinite", [1.0, 1.0, 1.0]),
    ] {
        assert_values(target, json!([X()]), json!({}), (&x, &one), &expected);
        // The same by its first parameter's name, and as a method.
        if !target.starts_with("operator.") {
            assert_values(target, json!([]), json!({"input": X()}), (&x, &one), &expected);
        }
        let name = target.rsplit('.').next().unwrap();
        assert_values(name, json!([X()]), json!({}), (&x, &one), &expected);
    }
    let far = vector(&[-800.0, 800.0]);
    assert_values("torch.sigmoid", json!([X()]), json!({}), (&far, &one), &[0.0, 1.0]);
    assert_values("log_sigmoid", json!([X()]), json!({}), (&far, &one), &[-800.0, 0.0]);
    assert_values("softplus", json!([X()]), json!({}), (&far, &one), &[0.0, 800.0]);
    assert_values(
        "softplus",
        json!([X(), 2.0, 1.0]),
        json!({}),
        (&x, &one),
        &[0.024_293_676, 0.346_573_590, 2.0],
    );
}

#[test]
fn functions_of_two_numbers() {
    let (x, y) = (vector(&[-3.0, 2.0, 5.0]), vector(&[2.0, 2.0, -2.0]));
    for (target, expected) in [
        ("operator.add", [-1.0, 4.0, 3.0]),
        ("torch.sub", [-5.0, 0.0, 7.0]),
        ("torch.rsub", [5.0, 0.0, -7.0]),
        ("mul", [-6.0, 4.0, -10.0]),
        ("operator.truediv", [-1.5, 1.0, -2.5]),
        ("operator.floordiv", [-2.0, 1.0, -3.0]),
        ("operator.mod", [1.0, 0.0, -1.0]),
        ("operator.pow", [9.0, 4.0, 0.04]),
        ("torch.minimum", [-3.0, 2.0, -2.0]),
        ("torch.maximum", [2.0, 2.0, 5.0]),
        ("torch.min", [-3.0, 2.0, -2.0]),
        ("max", [2.0, 2.0, 5.0]),
        ("torch.logaddexp", [2.006_715_349, 2.693_147_181, 5.000_911_466]),
        ("operator.gt", [0.0, 0.0, 1.0]),
        ("torch.ge", [0.0, 1.0, 1.0]),
        ("lt", [1.0, 0.0, 0.0]),
        ("operator.le", [1.0, 1.0, 0.0]),
        ("operator.eq", [0.0, 1.0, 0.0]),
        ("operator.ne", [1.0, 0.0, 1.0]),
        ("operator.and_", [1.0, 1.0, 1.0]),
        ("torch.logical_xor", [0.0, 0.0, 0.0]),
    ] {
        assert_values(target, json!([X(), Y()]), json!({}), (&x, &y), &expected);
    }
    assert_values("operator.sub", json!([1, X()]), json!({}), (&x, &y), &[4.0, -1.0, -4.0]);
    assert_values("torch.dot", json!([X(), Y()]), json!({}), (&x, &y), &[-12.0]);
}

#[test]
fn choices() {
    let (x, y) = (vector(&[-3.0, 2.0, 5.0]), vector(&[1.0, 0.0, 1.0]));
    let check =
        |target, args, kwargs, expected: [f64; 3]| assert_values(target, args, kwargs, (&x, &y), &expected);
    check("torch.clamp", json!([X(), -1, 3]), json!({}), [-1.0, 2.0, 3.0]);
    check("clamp", json!([X()]), json!({"max": 3.0, "min": null}), [-3.0, 2.0, 3.0]);
    check("torch.clip", json!([X(), {"float": "-inf"}, Y()]), json!({}), [-3.0, 0.0, 1.0]);
    check("clamp", json!([X(), 4, 1]), json!({}), [1.0, 1.0, 1.0]);
    check("clamp_min", json!([X(), 0]), json!({}), [0.0, 2.0, 5.0]);
    check("clamp_max", json!([X(), 0]), json!({}), [-3.0, 0.0, 0.0]);
    check("torch.where", json!([Y(), X(), 0.5]), json!({}), [-3.0, 0.5, 5.0]);
    check("where", json!([X(), Y(), 0.5]), json!({}), [-3.0, 0.5, 5.0]);
    check("masked_fill", json!([X(), Y(), {"float": "inf"}]), json!({}), [f64::INFINITY, 2.0, f64::INFINITY]);
}

#[test]
fn reductions() {
    let x = matrix(2, 3, &[1.0, 5.0, 3.0, 4.0, 2.0, 6.0]);
    let one = vector(&[1.0]);
    let check =
        |target, kwargs, expected: &[f64]| assert_values(target, json!([X()]), kwargs, (&x, &one), expected);
    check("sum", json!({}), &[21.0]);
    check("sum", json!({"dim": 0}), &[5.0, 7.0, 9.0]);
    check("torch.sum", json!({"dim": -1}), &[9.0, 12.0]);
    check("sum", json!({"dim": {"tuple": [0, 1]}}), &[21.0]);
    check("sum", json!({"dim": [1], "keepdim": true, "dtype": {"dtype": "float32"}}), &[9.0, 12.0]);
    check("mean", json!({}), &[3.5]);
    check("torch.mean", json!({"dim": 1}), &[3.0, 4.0]);
    check("min", json!({}), &[1.0]);
    check("torch.max", json!({}), &[6.0]);
    check("amax", json!({"dim": 0}), &[4.0, 5.0, 6.0]);
    check("amin", json!({"dim": 1}), &[1.0, 2.0]);
    check("logsumexp", json!({"dim": 1}), &[5.142_931_629, 6.142_931_629]);
    check(
        "torch.log_softmax",
        json!({"dim": 0}),
        &[-3.048_587_352, -0.048_587_352, -3.048_587_352, -0.048_587_352, -3.048_587_352, -0.048_587_352],
    );
    check(
        "torch.nn.functional.softmax",
        json!({"dim": 1, "_stacklevel": 3, "dtype": null}),
        &[0.015_876_240, 0.866_813_332, 0.117_310_428, 0.117_310_428, 0.015_876_240, 0.866_813_332],
    );
    let low = vector(&[f64::NEG_INFINITY, f64::NEG_INFINITY]);
    assert_values("logsumexp", json!([X(), 0]), json!({}), (&low, &one), &[f64::NEG_INFINITY]);
    let nothing = vector(&[]);
    assert_values("sum", json!([X()]), json!({}), (&nothing, &one), &[0.0]);
    assert_values("mean", json!([X()]), json!({}), (&nothing, &one), &[f64::NAN]);
    let along = [
        method("best", "max", &json!([X(), 1]), &json!({})),
        function("values", "operator.getitem", &json!([{"ref": "best"}, 0]), &json!({})),
        function("places", "operator.getitem", &json!([{"ref": "best"}, -1]), &json!({})),
    ];
    assert_eq!(elements(&along, "values", &x, &one), [5.0, 6.0]);
    assert_eq!(elements(&along, "places", &x, &one), [1.0, 2.0]);
    // `keepdim` keeps the dimension: the row maxima are a column that broadcasts over the rows.
    let centred = [
        method("top", "amax", &json!([X()]), &json!({"dim": 1, "keepdim": true})),
        function("centred", "operator.sub", &json!([X(), {"ref": "top"}]), &json!({})),
    ];
    assert_eq!(elements(&centred, "centred", &x, &one), [-4.0, 0.0, -2.0, -2.0, -4.0, 0.0]);
}

#[test]
fn indices() {
    let x = matrix(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let v = vector(&[1.0, 2.0, 3.0, 4.0]);
    let one = vector(&[1.0]);
    let slice = |start: Value, stop: Value, step: Value| json!({"slice": [start, stop, step]});
    let null = Value::Null;
    let all = slice(null.clone(), null.clone(), null.clone());
    let of = |array: &DenseArray, index: Value, expected: &[f64]| {
        assert_values("operator.getitem", json!([X(), index]), json!({}), (array, &one), expected);
    };
    of(&v, json!(-1), &[4.0]);
    of(&v, slice(json!(1), null.clone(), null.clone()), &[2.0, 3.0, 4.0]);
    of(&v, slice(null.clone(), json!(-1), json!(2)), &[1.0, 3.0]);
    of(&v, slice(json!(-99), json!(99), null.clone()), &[1.0, 2.0, 3.0, 4.0]);
    of(&v, slice(json!(3), json!(1), null.clone()), &[]);
    of(
        &v,
        json!({"tuple": [{"ellipsis": true}, slice(null.clone(), json!(-1), null.clone())]}),
        &[1.0, 2.0, 3.0],
    );
    of(&v, json!({"tuple": [null, {"ellipsis": true}]}), &[1.0, 2.0, 3.0, 4.0]);
    of(&x, json!(1), &[4.0, 5.0, 6.0]);
    of(&x, json!({"tuple": [all, 0]}), &[1.0, 4.0]);
    of(&x, json!({"tuple": [{"ellipsis": true}, 2]}), &[3.0, 6.0]);
    of(&x, json!({"tuple": [0, 1]}), &[2.0]);
    of(
        &x,
        json!({"tuple": [slice(null.clone(), null.clone(), json!(2)), slice(json!(1), null.clone(), null)]}),
        &[2.0, 3.0],
    );
}

#[test]
fn shapes_types_and_constants() {
    let x = matrix(2, 3, &[1.5, 2.0, 3.0, 4.0, 5.0, -6.5]);
    let one = vector(&[1.0]);
    let check = |target, args, expected: &[f64]| assert_values(target, args, json!({}), (&x, &one), expected);
    let same = [1.5, 2.0, 3.0, 4.0, 5.0, -6.5];
    let turned = [1.5, 4.0, 2.0, 5.0, 3.0, -6.5];
    check("t", json!([X()]), &turned);
    check("getattr", json!([X(), "T"]), &turned);
    check("getattr", json!([X(), "ndim"]), &[2.0]);
    check("numel", json!([X()]), &[6.0]);
    check("size", json!([X(), -1]), &[3.0]);
    check("view", json!([X(), 3, -1]), &same);
    check("reshape", json!([X(), {"tuple": [-1]}]), &same);
    check("torch.flatten", json!([X()]), &same);
    check("contiguous", json!([X()]), &same);
    check("to", json!([X(), {"dtype": "float32"}]), &same);
    check("to", json!([X(), "cpu", {"dtype": "int64"}]), &[1.0, 2.0, 3.0, 4.0, 5.0, -6.0]);
    check("long", json!([X()]), &[1.0, 2.0, 3.0, 4.0, 5.0, -6.0]);
    check("bool", json!([X()]), &[1.0; 6]);
    check("torch.zeros_like", json!([X()]), &[0.0; 6]);
    check("torch.ones_like", json!([X()]), &[1.0; 6]);
    check("torch.full_like", json!([X(), {"float": "-inf"}]), &[f64::NEG_INFINITY; 6]);
    let counted = [
        function("shape", "getattr", &json!([X(), "shape"]), &json!({})),
        function("rows", "operator.getitem", &json!([{"ref": "shape"}, 0]), &json!({})),
        function("y", "operator.truediv", &json!([X(), {"ref": "rows"}]), &json!({})),
    ];
    assert_eq!(elements(&counted, "y", &x, &one), same.map(|v| v / 2.0));
}

/// Shapes are aligned from the right and lengths of 1 stretch, in all combinations of ranks.
#[test]
fn broadcasting() {
    let m = matrix(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let sum = |a: &DenseArray, b: &DenseArray, expected: &[f64]| {
        assert_values("operator.add", json!([X(), Y()]), json!({}), (a, b), expected);
        assert_values("operator.add", json!([Y(), X()]), json!({}), (a, b), expected);
    };
    sum(&m, &DenseArray::scalar(10.0), &[11.0, 12.0, 13.0, 14.0, 15.0, 16.0]);
    sum(&m, &vector(&[10.0]), &[11.0, 12.0, 13.0, 14.0, 15.0, 16.0]);
    sum(&m, &vector(&[10.0, 20.0, 30.0]), &[11.0, 22.0, 33.0, 14.0, 25.0, 36.0]);
    sum(&m, &matrix(2, 1, &[10.0, 20.0]), &[11.0, 12.0, 13.0, 24.0, 25.0, 26.0]);
    sum(&vector(&[1.0, 2.0]), &matrix(2, 1, &[10.0, 20.0]), &[11.0, 12.0, 21.0, 22.0]);
    sum(&vector(&[1.0]), &vector(&[]), &[]);
    let error = evaluate_one(
        function("y", "operator.add", &json!([X(), Y()]), &json!({})),
        vector(&[1.0, 2.0, 3.0]),
        vector(&[1.0, 2.0]),
    )
    .unwrap_err();
    assert_eq!(
        (error.kind(), error.node(), error.target()),
        (LossGraphErrorKind::Shape, Some("y"), Some("operator.add"))
    );
    assert_eq!(
        error.to_string(),
        "custom loss: node `y` (operator.add): shapes [3] and [2] cannot be broadcast together"
    );
}

/// Errors name the node, its target and the reason.
#[test]
fn errors_name_the_node() {
    use LossGraphErrorKind::{Argument, Input, Malformed, NoGradient, Shape, Unsupported};
    let x = || vector(&[1.0, 2.0]);
    for (node, kind) in [
        (function("y", "torch.fft", &json!([X()]), &json!({})), Unsupported),
        (function("y", "os.exp", &json!([X()]), &json!({})), Unsupported),
        (function("y", "exp", &json!([X()]), &json!({})), Unsupported),
        (method("y", "item", &json!([X()]), &json!({})), Unsupported),
        (method("y", "exp_", &json!([X()]), &json!({})), Unsupported),
        (function("y", "torch.exp", &json!([]), &json!({})), Argument),
        (function("y", "torch.exp", &json!(["text"]), &json!({})), Argument),
        (function("y", "torch.exp", &json!([X(), 1]), &json!({})), Argument),
        (function("y", "torch.div", &json!([X(), 2]), &json!({"rounding_mode": "floor"})), Argument),
        (function("y", "torch.add", &json!([X(), 2]), &json!({"alpha": 3})), Argument),
        (function("y", "torch.clamp", &json!([X()]), &json!({})), Argument),
        (function("y", "torch.exp", &json!([{"ref": "later"}]), &json!({})), Malformed),
        (function("y", "torch.exp", &json!([{"dict": {}}]), &json!({})), Unsupported),
        (function("y", "torch.exp", &json!([{"complex": 1}]), &json!({})), Unsupported),
        (function("logprobs", "torch.exp", &json!([X()]), &json!({})), Malformed),
        (method("y", "sum", &json!([X(), 1]), &json!({})), Shape),
        (method("y", "view", &json!([X(), 3]), &json!({})), Shape),
        (function("y", "operator.getitem", &json!([X(), 2]), &json!({})), Shape),
        (function("y", "operator.getitem", &json!([X(), {"tuple": [0, 0]}]), &json!({})), Shape),
        (function("y", "operator.getitem", &json!([X(), {"slice": [null, null, -1]}]), &json!({})), Argument),
        (json!({"op": "get_attr", "name": "y", "target": "w", "args": [], "kwargs": {}}), Malformed),
        (json!({"op": "placeholder", "name": "y", "target": "weights", "args": [], "kwargs": {}}), Input),
        (
            json!({"op": "placeholder", "name": "y", "target": "logprobs", "args": [], "kwargs": {}}),
            Malformed,
        ),
    ] {
        let (name, target) = (node["name"].clone(), node["target"].clone());
        let error = evaluate_one(node, x(), x()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!((error.node(), error.target()), (name.as_str(), target.as_str()), "{error}");
    }
    let loss_of = |nodes: &[Value]| {
        graph_of(nodes).evaluate(&inputs(&[("logprobs", x()), ("other", x())])).unwrap_err()
    };
    assert_eq!(loss_of(&[function("y", "torch.exp", &json!([X()]), &json!({}))]).kind(), Shape);
    assert_eq!(loss_of(&[total("other")]).kind(), NoGradient);
    let detached = method("y", "detach", &json!([X()]), &json!({}));
    assert_eq!(loss_of(&[detached, total("y")]).kind(), NoGradient);
    let mut graph = recorded_graph(1);
    graph.nodes.pop();
    let arrays = inputs(&[("logprobs", x()), ("weights", x())]);
    assert_eq!(graph.evaluate(&arrays).unwrap_err().kind(), Malformed);
    graph.format = 2;
    assert_eq!(graph.evaluate(&arrays).unwrap_err().kind(), Unsupported);
}
