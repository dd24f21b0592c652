//! Golden traffic: what the official Python SDK was recorded to send and to make of the answers, replayed with this
//! client. [`deviations`] holds, in one table, every place where this client differs on purpose.

mod compare;
mod configuration;
mod credentials;
mod custom_losses;
mod deviations;
mod fixtures;
mod http_layer;
mod models;
mod observers;
mod rendered;
mod replay;
mod sampling;
mod sessions;
mod telemetry;
mod training;
mod weights;
