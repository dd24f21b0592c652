//! Custom losses (PROTOCOL 13; F-12, TR-2).

mod checks;
mod losses;
