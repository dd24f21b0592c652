//! Tests of the language model and of the stateful service.

mod model;
