//! The training side: runs, the order of their operations, weights, custom losses (PROTOCOL 11–14).
//!
//! A request is read and checked where it arrives ([`submit`]), gets its place in the order of its run ([`order`])
//! and a promise. Once the promise is due, the operation is carried out with nothing locked ([`execute`]); its
//! learner is out of the state meanwhile, so that nobody else can go on with the same run.

pub(crate) mod checkpoints;
pub(crate) mod compute;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod custom_losses;
pub(crate) mod decode;
pub(crate) mod effects;
pub(crate) mod execute;
pub(crate) mod forward_backward;
pub(crate) mod inspection;
pub(crate) mod load;
pub(crate) mod operation;
pub(crate) mod optim_step;
pub(crate) mod order;
pub(crate) mod output;
pub(crate) mod runs;
pub(crate) mod save;
pub(crate) mod submit;
