//! The poller without a server: scripted answers in virtual time.

mod answers;
mod budget;
mod observations;
mod polling;
mod session_polling;
mod shape;
mod steps;
mod support;
