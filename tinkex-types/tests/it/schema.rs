//! The protobuf schema against the golden vector: names, numbers, types, labels (PROTOCOL 18).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::fixture;

/// One field or enum value: `message.field = number: type label [oneof]`.
type Lines = BTreeSet<String>;

fn line(owner: &str, name: &str, number: &str, kind: &str, label: &str, oneof: &str) -> String {
    format!("{owner}.{name} = {number}: {kind} {label} {oneof}")
}

/// The schema as the golden vector has it.
fn golden() -> Lines {
    let vector = fixture(include_str!("../fixtures/proto_schema.json"));
    let short = |name: &Value| name.as_str().map(|n| n.trim_start_matches("tinker_public.").to_owned());
    let mut lines = Lines::new();
    for message in vector["messages"].as_array().unwrap() {
        let owner = short(&message["name"]).unwrap();
        for field in message["fields"].as_array().unwrap() {
            let kind = match field["type"].as_str().unwrap() {
                "map" => {
                    format!("map<{},{}>", short(&field["key"]).unwrap(), short(&field["value"]).unwrap())
                }
                "message" => short(&field["message"]).unwrap(),
                "enum" => short(&field["enum"]).unwrap(),
                scalar => scalar.to_owned(),
            };
            let text = |key: &str| field[key].as_str().unwrap_or_default().to_owned();
            let number = field["number"].to_string();
            lines.insert(line(&owner, &text("name"), &number, &kind, &text("label"), &text("oneof")));
        }
    }
    for values in vector["enums"].as_array().unwrap() {
        let owner = short(&values["name"]).unwrap();
        for value in values["values"].as_array().unwrap() {
            let name = value["name"].as_str().unwrap();
            lines.insert(line(&owner, name, &value["number"].to_string(), "enum", "value", ""));
        }
    }
    lines
}

/// The schema as the checked-in file has it. The file keeps to one declaration a line.
fn ours() -> Lines {
    let mut lines = Lines::new();
    let (mut owner, mut is_enum, mut oneof) = (String::new(), false, String::new());
    for text in include_str!("../../proto/tinker_public.proto").lines() {
        let text = text.split("//").next().unwrap().trim();
        if let Some((word, name)) = text.strip_suffix('{').and_then(|head| head.trim().split_once(' ')) {
            match word {
                "oneof" => oneof = name.to_owned(),
                _ => (owner, is_enum) = (name.to_owned(), word == "enum"),
            }
        } else if text == "}" {
            oneof.clear();
        } else if let Some((declaration, number)) = text.trim_end_matches(';').split_once(" = ") {
            if declaration.starts_with("syntax") {
                continue;
            }
            if is_enum {
                lines.insert(line(&owner, declaration, number, "enum", "value", ""));
                continue;
            }
            let declaration = declaration.replace(", ", ",");
            let words: Vec<_> = declaration.split(' ').collect();
            let (label, kind, name) = match words[..] {
                ["optional" | "repeated", kind, name] => (words[0], kind, name),
                [kind, name] if kind.starts_with("map<") => ("map", kind, name),
                [kind, name] => ("singular", kind, name),
                _ => panic!("{text}"),
            };
            lines.insert(line(&owner, name, number, kind, label, &oneof));
        }
    }
    lines
}

#[test]
fn the_schema_is_the_protocols() {
    let (golden, ours) = (golden(), ours());
    assert!(golden.len() > 60);
    let missing: Vec<_> = golden.difference(&ours).collect();
    let surplus: Vec<_> = ours.difference(&golden).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:#?}, surplus {surplus:#?}");
}
