//! tinkex-observer
