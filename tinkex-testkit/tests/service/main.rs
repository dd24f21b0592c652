//! Tests of the language model and of the stateful service.

mod caller;
mod control;
mod dialects;
mod flows;
mod model;
mod polls;
mod requests;
mod results;
mod steering;
