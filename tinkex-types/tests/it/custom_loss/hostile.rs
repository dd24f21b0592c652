//! Graphs that mean harm: nothing panics, nothing grows without end.

use proptest::prelude::*;
use serde_json::{Value, json};
use tinkex_types::custom_loss::{
    Argument, DenseArray, LossGraph, LossGraphErrorKind, NamedArguments, Node, NodeOp, NonFinite,
};

use super::wire::argument;
use super::{function, graph_of, inputs, method, total, vector};

/// All names the evaluator knows, and some it does not.
const TARGETS: [&str; 64] = [
    "operator.add",
    "operator.sub",
    "operator.mul",
    "operator.truediv",
    "operator.floordiv",
    "operator.mod",
    "operator.pow",
    "torch.exp",
    "torch.log",
    "torch.sqrt",
    "softplus",
    "torch.logaddexp",
    "operator.gt",
    "operator.eq",
    "torch.logical_and",
    "operator.invert",
    "torch.clamp",
    "clamp_min",
    "clamp_max",
    "torch.where",
    "where",
    "masked_fill",
    "sum",
    "mean",
    "amin",
    "amax",
    "min",
    "max",
    "torch.min",
    "logsumexp",
    "softmax",
    "log_softmax",
    "torch.dot",
    "torch.full_like",
    "torch.zeros_like",
    "torch.ones_like",
    "detach",
    "to",
    "long",
    "bool",
    "type_as",
    "contiguous",
    "operator.getitem",
    "unsqueeze",
    "squeeze",
    "flatten",
    "reshape",
    "view",
    "t",
    "numel",
    "size",
    "dim",
    "getattr",
    "torch.relu",
    "minimum",
    "maximum",
    "abs",
    "sigmoid",
    "sum_",
    "torch.",
    "",
    "backward",
    "torch.nn.functional.softmax",
    "math.exp",
];

/// Arguments that mostly fit: earlier nodes, small numbers, indices, and anything at all.
fn plausible() -> impl Strategy<Value = Argument> {
    let name = (0u8..12).prop_map(|n| Argument::Reference(format!("n{n}")));
    let small = prop_oneof![(-3i32..4).prop_map(Argument::from), Just(Argument::Null)];
    let bounds = [small.clone(), small.clone(), small.clone()];
    let index = prop_oneof![
        small.clone(),
        Just(Argument::Ellipsis),
        bounds.prop_map(|bounds| Argument::Slice(Box::new(bounds))),
    ];
    prop_oneof![
        6 => name,
        3 => small,
        2 => index.clone(),
        1 => prop::collection::vec(index, 0..3).prop_map(Argument::Tuple),
        1 => Just(Argument::NonFinite(NonFinite::NaN)),
        1 => Just(Argument::Text("shape".to_owned())),
        1 => Just(Argument::DType("int64".to_owned())),
        1 => Just(Argument::Number(i64::MAX.into())),
        1 => argument(),
    ]
}

fn node(index: usize) -> impl Strategy<Value = Node> {
    let keyword =
        prop::sample::select(vec!["dim", "keepdim", "min", "max", "other", "dtype", "fill_value", "x"]);
    let kind = prop_oneof![
        4 => Just(NodeOp::CallFunction),
        8 => Just(NodeOp::CallMethod),
        1 => Just(NodeOp::Placeholder),
        1 => Just(NodeOp::Other("get_attr".to_owned())),
    ];
    (
        kind,
        prop::sample::select(TARGETS.to_vec()),
        prop::collection::vec(plausible(), 0..4),
        prop::collection::vec((keyword, plausible()), 0..2),
    )
        .prop_map(move |(op, target, args, kwargs)| {
            // A function has a module and a method has none; half of the time the kind is made to fit.
            let op = if target.contains('.') && op == NodeOp::CallMethod { NodeOp::CallFunction } else { op };
            let kwargs: NamedArguments = kwargs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            Node { op, name: format!("n{}", index + 2), target: target.to_owned(), args, kwargs }
        })
}

fn placeholder(name: &str, target: &str) -> Node {
    let kwargs = NamedArguments::default();
    Node { op: NodeOp::Placeholder, name: name.to_owned(), target: target.to_owned(), args: vec![], kwargs }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_graph_makes_the_evaluator_panic(
        first in node(0),
        second in node(1),
        third in node(2),
        returned in plausible(),
        rows in 0usize..3,
        columns in 0usize..4,
        scalar in any::<f64>(),
        value in any::<f64>(),
    ) {
        let start = [placeholder("n0", "logprobs"), placeholder("n1", "other")];
        let output = Node {
            op: NodeOp::Output,
            name: "output".to_owned(),
            target: "output".to_owned(),
            args: vec![Argument::Tuple(vec![returned, Argument::Dict(NamedArguments::default())])],
            kwargs: NamedArguments::default(),
        };
        let steps = [first, second, third];
        let matrix = DenseArray::matrix(rows, columns, vec![value; rows * columns]).unwrap();
        let arrays = inputs(&[("logprobs", matrix), ("other", DenseArray::scalar(scalar))]);
        // Every single step on its own, so that one bad step does not hide the others.
        for steps in steps.iter().map(std::slice::from_ref).chain([&steps[..]]) {
            let nodes = start.iter().chain(steps).chain([&output]).cloned().collect();
            let graph = LossGraph { format: LossGraph::FORMAT, nodes };
            let _ = graph.evaluate(&arrays).map_err(|error| error.to_string());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Numbers of any size, NaN and infinities through a graph of many operations.
    #[test]
    fn no_numbers_make_the_evaluator_panic(x in prop::collection::vec(any::<f64>(), 0..6)) {
        let arrays = inputs(&[("logprobs", vector(&x)), ("old", vector(&x)), ("adv", vector(&x))]);
        let result = super::recorded_graph(0).evaluate(&arrays);
        prop_assert_eq!(result.is_ok(), !x.is_empty(), "the least of no elements does not exist");
    }
}

fn exp(name: &str, of: &str) -> Value {
    function(name, "torch.exp", &json!([{"ref": of}]), &json!({}))
}

fn evaluate(nodes: &[Value], logprobs: DenseArray) -> Result<(), (LossGraphErrorKind, Option<String>)> {
    let arrays = inputs(&[("logprobs", logprobs), ("other", vector(&[1.0]))]);
    let result = graph_of(nodes).evaluate(&arrays);
    result.map(drop).map_err(|error| (error.kind(), error.node().map(str::to_owned)))
}

#[test]
fn nodes_are_limited() {
    let chain = |steps: usize| {
        let mut nodes = vec![exp("e0", "logprobs")];
        nodes.extend((1..steps).map(|i| exp(&format!("e{i}"), &format!("e{}", i - 1))));
        nodes.push(total(&format!("e{}", steps - 1)));
        evaluate(&nodes, vector(&[-1.0]))
    };
    // The inputs, the sum and the output are four more.
    assert_eq!(chain(9_996), Ok(()));
    assert_eq!(chain(9_997), Err((LossGraphErrorKind::Limit, None)));
}

/// A vector of n broadcast with its own column has n² elements.
#[test]
fn broadcasts_are_limited() {
    let square = |n: usize| {
        let nodes = [
            method("column", "unsqueeze", &json!([{"ref": "logprobs"}, 1]), &json!({})),
            function("y", "operator.gt", &json!([{"ref": "logprobs"}, {"ref": "column"}]), &json!({})),
            method("z", "sum", &json!([{"ref": "logprobs"}]), &json!({})),
            function("loss", "operator.add", &json!([{"ref": "z"}, 0]), &json!({})),
        ];
        evaluate(&nodes, DenseArray::vector(vec![0.5; n]))
    };
    assert_eq!(square(1_000), Ok(()));
    assert_eq!(square(4_097), Err((LossGraphErrorKind::Limit, Some("y".to_owned()))));
}

/// Many arrays that are small enough each are too much together, and so are many sums of one of them.
#[test]
fn all_intermediate_results_are_limited() {
    let repeated = |target: &str, times: usize| {
        let mut nodes: Vec<Value> = (0..times)
            .map(|i| function(&format!("y{i}"), target, &json!([{"ref": "logprobs"}]), &json!({})))
            .collect();
        nodes.push(total("logprobs"));
        evaluate(&nodes, DenseArray::vector(vec![0.5; 1 << 20]))
    };
    assert_eq!(repeated("torch.zeros_like", 25), Ok(()));
    for target in ["torch.zeros_like", "torch.sum"] {
        let (kind, node) = repeated(target, 35).unwrap_err();
        assert_eq!(kind, LossGraphErrorKind::Limit, "{target}");
        assert!(node.is_some_and(|name| name.starts_with('y')));
    }
}

/// Shapes with a dimension of 0 hold nothing however long the other one is.
#[test]
fn empty_shapes_are_limited() {
    let wide = DenseArray::matrix(usize::MAX, 0, vec![]).unwrap();
    assert_eq!(
        evaluate(&[exp("y", "logprobs"), total("y")], wide),
        Err((LossGraphErrorKind::Limit, Some("logprobs".to_owned())))
    );
    let reshape = |dimensions: Value| {
        let nodes =
            [method("y", "reshape", &json!([{"ref": "logprobs"}, dimensions]), &json!({})), total("y")];
        evaluate(&nodes, vector(&[]))
    };
    assert_eq!(reshape(json!([0, 7])), Ok(()));
    assert!(reshape(json!([0, 1_000_000_000_000_i64])).is_err());
    assert!(reshape(json!([-1, 0])).is_ok());
    assert!(reshape(json!([-1, -1])).is_err());
}

/// Arguments within arguments, and sequences that would double from node to node.
#[test]
fn nesting_is_limited() {
    let nested = |depth: usize| (0..depth).fold(json!({"ref": "logprobs"}), |inner, _| json!([inner]));
    let (kind, _) =
        evaluate(&[method("y", "sum", &json!([nested(40)]), &json!({}))], vector(&[1.0])).unwrap_err();
    assert_eq!(kind, LossGraphErrorKind::Limit);
    let twice = |of: &str| json!({"tuple": [{"tuple": [{"ref": of}, {"ref": of}]}]});
    let doubling = function("y", "operator.getitem", &json!([twice("logprobs"), 0]), &json!({}));
    let (kind, node) = evaluate(&[doubling], vector(&[1.0])).unwrap_err();
    assert_eq!((kind, node.as_deref()), (LossGraphErrorKind::Unsupported, Some("y")));
    let text = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(serde_json::from_str::<Argument>(&text).is_err());
}
