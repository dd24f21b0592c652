//! Tests of the language model and of the stateful service.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in helpers, a failed step is a failed test

mod caller;
mod control;
mod dialects;
mod flows;
mod learner;
mod learner_gradients;
mod learner_optimizers;
mod model;
mod polls;
mod requests;
mod results;
mod steering;
mod tokens;
mod training;
mod training_custom;
mod training_order;
mod training_weights;
mod training_wire;
