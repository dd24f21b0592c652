//! Tests of the fake server: both faces, scripts, gates, log, chaos, control routes and the program.

mod assertions;
mod chaos;
mod client;
mod control;
mod gates;
mod log;
mod memory;
mod program;
mod script;
mod socket;
