//! Names of graph nodes, made as the tracer of the official SDK makes them: `mul`, `mul_1`, and `sum_1` where the plain
//! word is Python's own.

use std::collections::{HashMap, HashSet};

/// Words that cannot be names: Python's keywords and lowercase builtins, and what the tracer's code generator uses.
const RESERVED: &str = "\
    abs aiter all and anext any as ascii assert async await bin bool break breakpoint bytearray bytes \
    callable chr class classmethod compile complex continue copyright credits def del delattr device dict \
    dir divmod elif else enumerate eval except exec exit filter finally float for format from frozenset \
    fx_pytree getattr global globals hasattr hash help hex id if import in inf input int is isinstance \
    issubclass iter lambda len license list locals map max memoryview min nan next nonlocal not object oct \
    open or ord pass pow print property pytree quit raise range repr return reversed round set setattr slice \
    sorted staticmethod str sum super torch try tuple type vars";

/// The names given so far.
#[derive(Debug, Default)]
pub(super) struct NodeNames {
    used: HashSet<String>,
    counts: HashMap<String, u64>,
}

impl NodeNames {
    /// A name that no earlier node has, `candidate` itself where it is free.
    pub(super) fn create(&mut self, candidate: &str) -> String {
        let (base, suffix) = split(candidate);
        let mut name = candidate.to_owned();
        let mut number = match suffix {
            Some(number) if !self.used.contains(candidate) => number,
            _ => self.counts.get(candidate).copied().unwrap_or(0),
        };
        // An input may be named with the largest number there is.
        let next = |number: u64| number.wrapping_add(1);
        if RESERVED.split(' ').any(|word| word == candidate) {
            number = next(number);
            name = format!("{base}_{number}");
        }
        while self.used.contains(&name) {
            number = next(number);
            name = format!("{base}_{number}");
        }
        self.used.insert(name.clone());
        self.counts.insert(base.to_owned(), number);
        name
    }
}

/// A name and the number at its end, where it has one.
fn split(name: &str) -> (&str, Option<u64>) {
    match name.rsplit_once('_').map(|(base, digits)| (base, digits.parse())) {
        Some((base, Ok(number))) => (base, Some(number)),
        _ => (name, None),
    }
}
