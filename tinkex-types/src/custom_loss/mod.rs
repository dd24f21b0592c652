//! Custom losses that a server runs: the graph that is sent, a builder for it, and a local evaluator (PROTOCOL 13.3).
//!
//! [`CustomLoss::build`] turns a closure over tensor expressions into the graph that the official SDK's tracer would
//! have made of the same function:
//!
//! ```
//! use tinkex_types::custom_loss::{CustomLoss, LossOutput, Rank};
//!
//! let clipped = CustomLoss::build("clip_loss", [("old", Rank::Vector), ("adv", Rank::Vector)], |x| {
//!     let ratio = (x.logprobs() - x.input("old")).exp();
//!     let objective = (&ratio * x.input("adv")).minimum(ratio.clamp(0.8, 1.2) * x.input("adv"));
//!     LossOutput::new(-objective.sum()).metric("custom/ratio:mean", ratio.mean())
//! })?;
//! assert_eq!(clipped.inputs().len(), 3);
//! # Ok::<(), tinkex_types::InvalidInput>(())
//! ```
//!
//! Where the server does not run custom losses, [`CustomLoss::evaluate_data`] computes the loss, its gradient with
//! respect to the log-probabilities and the metrics locally (PROTOCOL 13.1).

mod argument;
mod array;
mod builder;
mod call;
mod data;
mod error;
mod evaluate;
mod expression;
mod gradient;
mod graph;
mod loss;
mod naming;
mod operations;
mod rank;
mod request;
mod rules;

pub use argument::{Argument, NamedArguments, NonFinite};
pub use array::DenseArray;
pub use builder::{LossInputs, LossOutput};
pub use data::CustomLossOutcome;
pub use error::{LossGraphError, LossGraphErrorKind};
pub use evaluate::LossEvaluation;
pub use expression::{LossCondition, LossExpression, LossOperand};
pub use graph::{LossGraph, Node, NodeOp};
pub use loss::CustomLoss;
pub use rank::Rank;
pub use request::{CreateCustomLossRequest, CreateCustomLossResult, CustomLossInput};
