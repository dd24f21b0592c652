//! Integration tests of the wire types: golden vectors, bodies, results, validation, properties.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in helpers, a failed step is a failed test

mod allocation;
mod config;
mod custom_loss;
mod drift;
mod estimates;
mod examples;
mod futures;
mod handles;
mod properties;
mod requests;
mod results;
mod schema;
mod sessions;
mod sharing;
mod support;
mod tensors;
mod training_bodies;
mod training_data;
mod training_requests;
mod training_results;
mod validation;
