//! What is printed, traced and logged: never a secret, and never a flood.

mod quiet;
mod said;
mod secrets;
