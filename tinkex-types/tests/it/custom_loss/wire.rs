//! The wire form against the recorded uploads, and every form of argument.

use proptest::prelude::*;
use serde_json::{Number, Value, json};
use tinkex_types::custom_loss::{Argument, NamedArguments, Node, NodeOp, NonFinite};
use tinkex_types::{CreateCustomLossRequest, CreateCustomLossResult, CustomLoss};

use super::{recorded, server_side};

/// Both recorded uploads read and write back byte for byte, order of members included.
#[test]
fn recorded_uploads_come_back() {
    for (n, seq_id, name) in [(0, 0, "clip_loss"), (1, 1, "neg_ll")] {
        let exchange = &server_side()["exchanges"][n];
        let text = exchange["request"]["body_text"].as_str().unwrap().to_owned();
        let request: CreateCustomLossRequest = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!((request.session_id.as_str(), request.custom_loss_seq_id), ("s-0001", seq_id));
        let loss = CustomLoss::try_from(request.clone()).unwrap();
        assert_eq!(loss.name(), name);
        assert_eq!(CreateCustomLossRequest::new("s-0001", seq_id, &loss), request);
    }
}

#[test]
fn the_recorded_result_is_read() {
    let body = &server_side()["exchanges"][2]["response"]["body"];
    let result: CreateCustomLossResult = serde_json::from_value(body.clone()).unwrap();
    assert_eq!(result.loss_id, "loss-1");
}

/// PROTOCOL 13.3: every form, in JSON and as it is read.
#[test]
fn every_form_of_argument() {
    let number = |n: i32| Argument::from(n);
    let named = |members: &[(&str, Argument)]| {
        members
            .iter()
            .map(|(name, argument)| ((*name).to_owned(), argument.clone()))
            .collect::<NamedArguments>()
    };
    let text = |text: &str| text.to_owned();
    for (json, argument) in [
        (json!(null), Argument::Null),
        (json!(true), Argument::Bool(true)),
        (json!(-3), number(-3)),
        (json!(u64::MAX), Argument::Number(u64::MAX.into())),
        (json!(0.5), Argument::from(0.5)),
        (json!("cpu"), Argument::Text(text("cpu"))),
        (json!([1, [null]]), Argument::List(vec![number(1), Argument::List(vec![Argument::Null])])),
        (json!({"ref": "mul_1"}), Argument::Reference(text("mul_1"))),
        (json!({"tuple": []}), Argument::Tuple(vec![])),
        (json!({"tuple": [{"ellipsis": true}, 1]}), Argument::Tuple(vec![Argument::Ellipsis, number(1)])),
        // A dict whose only key looks like another form is still a dict.
        (json!({"dict": {"ref": "x"}}), Argument::Dict(named(&[("ref", Argument::Text(text("x")))]))),
        (
            json!({"slice": [null, -1, {"ref": "n"}]}),
            Argument::Slice(Box::new([Argument::Null, number(-1), Argument::Reference(text("n"))])),
        ),
        (json!({"float": "inf"}), Argument::from(f64::INFINITY)),
        (json!({"float": "-inf"}), Argument::from(f64::NEG_INFINITY)),
        (json!({"float": "nan"}), Argument::from(f64::NAN)),
        (json!({"dtype": "float32"}), Argument::DType(text("float32"))),
        (json!({"device": "cpu"}), Argument::Device(text("cpu"))),
        (json!({"layout": "strided"}), Argument::Layout(text("strided"))),
        (json!({"memory_format": "contiguous_format"}), Argument::MemoryFormat(text("contiguous_format"))),
        (
            json!({"complex": [1, {"re": 0}]}),
            Argument::Other { form: text("complex"), content: json!([1, {"re": 0}]) },
        ),
    ] {
        assert_eq!(serde_json::from_value::<Argument>(json.clone()).unwrap(), argument, "{json}");
        assert_eq!(serde_json::to_value(&argument).unwrap(), json);
    }
    for wrong in [
        json!({}),
        json!({"ref": "a", "tuple": []}),
        json!({"future": 1, "second": 2}),
        json!({"ref": 1}),
        json!({"slice": [1, 2]}),
        json!({"float": "1.0"}),
        json!({"ellipsis": "yes"}),
    ] {
        assert!(serde_json::from_value::<Argument>(wrong.clone()).is_err(), "{wrong}");
    }
}

/// What this version does not know is kept: kinds of nodes, targets, forms of arguments, nulls among named arguments.
#[test]
fn unknown_nodes_come_back() {
    let json = json!({
        "op": "get_attr",
        "name": "w",
        "target": "torch.of_tomorrow",
        "args": [{"quaternion": {"i": 1}}],
        "kwargs": {"dim": null, "a": [{"layout": "x"}]},
    });
    let node: Node = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(node.op, NodeOp::Other("get_attr".to_owned()));
    assert_eq!(node.kwargs.get("dim"), Some(&Argument::Null));
    assert_eq!(serde_json::to_value(&node).unwrap(), json);
}

/// Every rule for losses made elsewhere, broken one at a time on a recorded upload (PROTOCOL 13.3).
#[test]
fn broken_uploads_are_refused() {
    let good = recorded(1);
    let load = |body: &Value| {
        let request: CreateCustomLossRequest = serde_json::from_value(body.clone()).unwrap();
        CustomLoss::try_from(request)
    };
    assert!(load(&good).is_ok());
    let broken = |pointer: &str, value: Value| {
        let mut body = good.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        load(&body).unwrap_err().to_string()
    };
    for (pointer, value, expected) in [
        ("/name", json!("NegLl"), "custom loss name"),
        ("/inputs/0/name", json!("logits"), "`logprobs`"),
        ("/inputs/0/rank", json!(0), "rank 1 or 2"),
        ("/inputs/1/name", json!("w"), "declared inputs"),
        ("/graph/format", json!(2), "format 1, not 2"),
        ("/graph/nodes/3/name", json!("mul"), "two nodes named `mul`"),
        ("/graph/nodes/3/op", json!("call_module"), "kind call_module"),
        ("/graph/nodes/3/op", json!("output"), "one output"),
        ("/graph/nodes/6/args", json!([{"ref": "neg"}]), "loss and a dict"),
        ("/graph/nodes/6/args/0/tuple/1/dict", json!({"loss:sum": {"ref": "neg"}}), "loss:sum"),
    ] {
        let message = broken(pointer, value);
        assert!(message.contains(expected), "{pointer}: {message}");
    }
    assert!(
        serde_json::from_value::<CreateCustomLossRequest>({
            let mut body = good.clone();
            body["inputs"][1]["rank"] = json!(3);
            body
        })
        .is_err()
    );
}

/// Any argument, of bounded depth.
pub(super) fn argument() -> impl Strategy<Value = Argument> {
    let text = || prop_oneof!["[a-z_]{0,6}", "\\PC{0,4}"];
    let leaf = prop_oneof![
        Just(Argument::Null),
        Just(Argument::Ellipsis),
        any::<bool>().prop_map(Argument::Bool),
        any::<i64>().prop_map(|v| Argument::Number(v.into())),
        any::<u64>().prop_map(|v| Argument::Number(v.into())),
        any::<i32>().prop_map(|v| Argument::from(f64::from(v) / 64.0)),
        prop::sample::select(vec![NonFinite::Infinity, NonFinite::NegativeInfinity, NonFinite::NaN])
            .prop_map(Argument::NonFinite),
        text().prop_map(Argument::Text),
        text().prop_map(Argument::Reference),
        text().prop_map(Argument::DType),
        text().prop_map(Argument::Device),
        text().prop_map(Argument::Layout),
        text().prop_map(Argument::MemoryFormat),
        "x[a-z]{0,4}".prop_map(|form| Argument::Other { form, content: json!({"a": [1, null]}) }),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let several = prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            several.clone().prop_map(Argument::List),
            several.prop_map(Argument::Tuple),
            [inner.clone(), inner.clone(), inner.clone()]
                .prop_map(|bounds| Argument::Slice(Box::new(bounds))),
            prop::collection::vec(("\\PC{0,5}", inner), 0..3)
                .prop_map(|members| Argument::Dict(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arguments_come_back(argument in argument()) {
        let text = serde_json::to_string(&argument).unwrap();
        prop_assert_eq!(serde_json::from_str::<Argument>(&text).unwrap(), argument);
    }

    /// Whole numbers stay whole and floats stay floats, so that a graph keeps its meaning.
    #[test]
    fn numbers_keep_their_form(whole in any::<i32>()) {
        let read = |text: &str| serde_json::from_str::<Argument>(text).unwrap();
        prop_assert_eq!(read(&whole.to_string()), Argument::Number(Number::from(whole)));
        let float = f64::from(whole);
        prop_assert_eq!(read(&format!("{float:.1}")), Argument::from(float));
        prop_assert_ne!(read("1"), read("1.0"));
    }
}
